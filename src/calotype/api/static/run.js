/** One run: what is sent, and what comes back. */

import { call, follow, modelPath, newRequestId } from "./server.js";

const LONGEST_S = 3600;

/** Whether a value is a picture among the parameters. */
export const isPicture = (value) => value?.blob instanceof Blob;
/** Whether it has parts. */
export const isTable = (value) => value?.constructor === Object && !isPicture(value);

/** @param {Blob} blob */
const base64 = (blob) => new Promise((resolve, reject) => {
	const reader = new FileReader();
	reader.onload = () => resolve(reader.result.split(",")[1]);
	reader.onerror = () => reject(reader.error);
	reader.readAsDataURL(blob);
});

async function encode(value) {
	if (isPicture(value)) return base64(value.blob);
	if (!isTable(value)) return value;
	return Object.fromEntries(await Promise.all(Object.entries(value).map(async ([name, part]) => [name, await encode(part)])));
}

/** The picture itself where there are no parameters, JSON otherwise. */
async function bodyOf(picture, values) {
	if (!Object.keys(values).length) return picture;
	return new Blob(['{"inputs":"', await base64(picture), '","parameters":', JSON.stringify(await encode(values)), "}"]);
}

function readFacts(headers, blob, seconds) {
	// Several headers may stand in one line; each begins with its subject and a semicolon.
	const warnings = headers.get("x-hf-warning")?.split(/, (?=[\w-]+; )/) ?? [];
	return {
		type: headers.get("content-type"),
		bytes: blob.size,
		seconds,
		modelSeconds: Number(headers.get("x-inference-time")) / 1000,
		model: headers.get("x-model-id"),
		seed: headers.get("x-seed"),
		cache: headers.get("x-cache"),
		unchanged: headers.get("x-unchanged-pixels"),
		safety: headers.get("x-safety"),
		warnings: warnings.map((one) => one.replace(/^[\w-]+; /, "")),
	};
}

/**
 * Run a model.
 * @param {{model: string, picture: Blob, values: any, info: any, onState: (state: any) => void}} job
 * @returns {{answer: Promise<{result: Blob, facts: any}>, cancel: () => Promise<void>}}
 */
export function start({ model, picture, values, info, onState }) {
	const id = newRequestId();
	const [work, watch] = [new AbortController(), new AbortController()];
	const deadline = Math.min(info.max_deadline_s, LONGEST_S) * 1000;
	const headers = { "x-request-id": id, "x-wait-for-model": "true", "x-deadline-ms": Math.floor(deadline) };

	async function run() {
		const began = performance.now();
		const body = await bodyOf(picture, values);
		follow(id, onState, watch.signal);
		try {
			const answer = await call(modelPath(model), { method: "POST", headers, body, signal: work.signal });
			const result = await answer.blob();
			return { result, facts: readFacts(answer.headers, result, (performance.now() - began) / 1000) };
		} finally {
			watch.abort();
		}
	}
	async function cancel() {
		// The end of the connection alone would do, but not through every proxy.
		const told = call(`requests/${id}`, { method: "DELETE", quiet: true }).catch(() => {});
		await Promise.race([told, new Promise((resolve) => setTimeout(resolve, 2000))]);
		work.abort();
	}
	return { answer: run(), cancel };
}

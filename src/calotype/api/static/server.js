/** Calls to the server. Addresses are relative, so that it may live behind a path prefix. */

import { text } from "./text.js";
import { askToken, currentToken } from "./token.js";

/** What a call failed with: the server's own sentence. */
export class ServerError extends Error {
	/**
	 * @param {string} message
	 * @param {number} [status] 0: the server was not reached
	 * @param {number} [retryAfter] seconds
	 */
	constructor(message, status = 0, retryAfter = 0) {
		super(message);
		Object.assign(this, { status, retryAfter });
	}
}

/**
 * Call the server; on a 401 ask for a token, and call again.
 * @param {string} path
 * @param {RequestInit & {quiet?: boolean}} [init] quiet: don't ask
 * @returns {Promise<Response>} one that is ok
 * @throws {ServerError}
 */
export async function call(path, { quiet, ...init } = {}) {
	for (;;) {
		const token = currentToken();
		const headers = new Headers(init.headers);
		if (token) headers.set("authorization", `Bearer ${token}`);
		const answer = await fetch(path, { ...init, headers }).catch(() => null);
		if (!answer) throw new ServerError(text.hints.network);
		if (answer.ok) return answer;
		const { error } = await answer.json().catch(() => ({}));
		const sentence = error ?? `${answer.status} ${answer.statusText}`;
		const failed = new ServerError(sentence, answer.status, Number(answer.headers.get("retry-after")) || 0);
		if (answer.status !== 401 || quiet) throw failed;
		// Another call may have asked meanwhile.
		if (token === currentToken() && !(await askToken(token && sentence))) throw failed;
	}
}

/** @param {string} path */
export const getJson = async (path) => (await call(path)).json();

/** @param {string} id of a model or chain */
export const modelPath = (id) => `models/${encodeURI(id).replace(/[?#]/g, encodeURIComponent)}`;

/** The server's address with a slash at the end. */
export const serverUrl = () => new URL(".", location.href).href;

/** Make an id for a request. `randomUUID` is missing where the page came over plain http. */
export const newRequestId = () =>
	crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("-");

/**
 * Follow a request until it ends or `signal` aborts. A stream that breaks is taken up again.
 * @param {string} id
 * @param {(state: any) => void} onState
 * @param {AbortSignal} signal
 */
export async function follow(id, onState, signal) {
	let last = {};
	while (!signal.aborted) {
		try {
			const headers = last.id ? { "last-event-id": last.id } : {};
			const { body } = await call(`requests/${id}/events`, { signal, headers, quiet: true });
			for await (last of readEvents(body)) {
				if (last.data && !signal.aborted) onState(JSON.parse(last.data));
				if (["done", "failed", "cancelled"].includes(last.event)) return;
			}
		} catch {
			// Progress is a courtesy: the answer itself says what went wrong.
		}
		await new Promise((resolve) => setTimeout(resolve, 1000));
	}
}

/**
 * Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
 * @param {ReadableStream<Uint8Array>} body
 */
async function* readEvents(body) {
	const reader = body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = "";
	for (;;) {
		const { value, done } = await reader.read();
		if (done) return;
		const blocks = (rest + value).split(/\r?\n\r?\n/);
		rest = blocks.pop();
		for (const block of blocks) yield Object.fromEntries([...block.matchAll(/^(\w+): ?(.*)$/gm)].map(([, name, said]) => [name, said]));
	}
}

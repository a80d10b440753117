/** What is known of a result, and what can be done with it. */

import { button, byId, h, toBlob } from "./dom.js";
import { bytes, percent, pixels, text } from "./text.js";

const EXTENSIONS = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp" };
const words = text.result;

/**
 * Name a result's file.
 * @param {string} input name of the picture it was made from
 * @param {string} model
 * @param {string} type of its content
 */
export function fileName(input, model, type) {
	const stem = input.replace(/\.[^.]*$/, "") || "picture";
	return `${stem}-${model.replaceAll(/[^\w.-]+/g, "-")}.${EXTENSIONS[type] ?? "bin"}`;
}

// 0.98, or of a chain inpaint=0.98 and so on.
const shares = (line) => line?.replaceAll(/[\d.]+(?=$|,)/g, (share) => percent(share, 2)).replaceAll("=", ": ");

const lines = (facts, size) => [
	[words.size, size.shown && pixels(size)],
	[words.file, `${facts.type.replace("image/", "").toUpperCase()}, ${bytes(facts.bytes)}`],
	[words.time, words.times(facts.seconds, facts.modelSeconds)],
	[words.model, facts.model],
	[words.seed, facts.seed],
	[words.cache, words.caches[facts.cache]],
	[words.unchanged, shares(facts.unchanged)],
	[words.safety, facts.safety?.replaceAll("=", ": ")],
].filter(([, value]) => value);

/** Chromium's clipboard takes PNG only. */
const asPng = async (blob) => (blob.type === "image/png" ? blob : toBlob(await createImageBitmap(blob), 1, "image/png"));

function copyButton(blob) {
	// Missing where the page came over plain http.
	if (!navigator.clipboard?.write) return null;
	const made = button("#copy-image", words.copy, copy, { icon: "copy", wide: true });
	async function copy() {
		try {
			// Given the promise, Safari lets the copy happen after the click.
			await navigator.clipboard.write([new ClipboardItem({ "image/png": asPng(blob) })]);
			made.lastChild.textContent = words.copied;
		} catch {
			made.disabled = true;
		}
	}
	return made;
}

/**
 * Show the facts and the buttons.
 * @param {Blob} blob
 * @param {any} facts
 * @param {{url: string, shown: boolean, width: number, height: number}} size
 * @param {string} name of the file
 * @param {{use: () => void, again: (() => void)|null}} actions
 */
export function showFacts(blob, facts, size, name, { use, again }) {
	byId("facts").replaceChildren(
		h("div.row.actions",
			h("a.button.primary#download", { href: size.url, download: name }, words.download),
			button("#use-result", words.use, use, { icon: "use", wide: true }),
			size.shown && copyButton(blob),
			again && button("#again", words.again, again, { icon: "again", wide: true })),
		facts.warnings.length ? h("div.note#warnings", h("strong", words.warnings), h("ul", facts.warnings.map((one) => h("li", one)))) : "",
		h("dl", lines(facts, size).map(([term, value]) => h("div", h("dt", term), h("dd", value)))),
	);
}

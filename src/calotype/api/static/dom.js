/** Builds the page. Text only ever becomes text, never HTML. */

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
	again: "M20 11A8 8 0 1 0 18 17M20 5v6h-6",
	close: "M6 6l12 12M18 6 6 18",
	copy: "M9 9h11v11H9zM5 15H4V4h11v1",
	dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M12 12h.01M9 15h.01M15 15h.01",
	fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
	key: "M8 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 12h9v4m-4-4v3",
	minus: "M5 12h14",
	plus: "M12 5v14M5 12h14",
	redo: "M15 14l5-5-5-5M20 9H10a6 6 0 0 0 0 12h3",
	theme: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
	trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
	undo: "M9 14 4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
	upload: "M12 16V4m0 0L7 9m5-5 5 5M4 20h16",
	use: "M4 12h12m0 0-5-5m5 5-5 5M20 4v16",
};

/**
 * Make an element.
 * @param {string} tag with classes and an id: `div.row#tools`
 * @param {...any} parts attributes first, if any (`on...` are listeners), then nodes and texts;
 *   null, undefined and false are left out
 * @returns {any}
 */
export function h(tag, ...parts) {
	const [name, ...marks] = tag.split(/(?=[.#])/);
	const element = document.createElement(name);
	for (const mark of marks) {
		if (mark[0] === ".") element.classList.add(mark.slice(1));
		else element.id = mark.slice(1);
	}
	const isLeftOut = (part) => part == null || part === false;
	const props = parts[0]?.constructor === Object ? parts.shift() : {};
	for (const [key, value] of Object.entries(props)) {
		if (isLeftOut(value)) continue;
		if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
		else element.setAttribute(key, value === true ? "" : value);
	}
	element.append(...parts.flat(2).filter((part) => !isLeftOut(part)));
	return element;
}

/** @param {keyof typeof ICONS} name */
export function icon(name) {
	const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS(SVG, tag));
	svg.setAttribute("viewBox", "0 0 24 24");
	svg.setAttribute("aria-hidden", "true");
	path.setAttribute("d", ICONS[name]);
	svg.append(path);
	return svg;
}

/**
 * Make a button.
 * @param {string} tag classes and id
 * @param {string} label only spoken where there is an icon, unless it is `wide`
 * @param {() => void} onclick
 * @param {Record<string, any>} [props] `icon`, `wide`, and attributes
 */
export function button(tag, label, onclick, { icon: name, wide = !name, ...props } = {}) {
	const spoken = wide ? {} : { "aria-label": label, title: label };
	const made = h(`button.button${tag}`, { type: "button", onclick, ...spoken, ...props }, name && icon(name), wide && h("span", label));
	made.classList.toggle("square", !wide);
	return made;
}

/** @param {string} id */
export const byId = (id) => document.getElementById(id);

let count = 0;
/** Make an id that no other element has. */
export const newId = () => `e${++count}`;

/** Tell the parts of the page that something changed. */
export const emit = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));
/** Be told. */
export const on = (name, listener) => document.addEventListener(name, (event) => listener(event.detail));

/** Tell the form that a control of ours changed. */
export const changed = (element) => element.dispatchEvent(new Event("input", { bubbles: true }));

/**
 * A choice of a few, side by side.
 * @param {string} label
 * @param {[string, string][]} options ids and words
 */
export function segments(label, options) {
	const name = newId();
	const option = ([id, words]) => h("label", h(`input.cover#${id}`, { type: "radio", name, value: id }), h("span", words));
	return h("div.segments", { role: "radiogroup", "aria-label": label }, options.map(option));
}

/**
 * Make a button that opens the file chooser; arguments as for `button`.
 * @param {string} tag
 * @param {string} label
 * @param {(file: File) => void} onFile
 * @param {Record<string, any>} [props] `icon`, and attributes of the input
 */
export function fileButton(tag, label, onFile, { icon: name, ...props } = {}) {
	const input = h("input.hidden", { type: "file", accept: "image/*,.tif,.tiff,.avif", ...props });
	input.addEventListener("input", (event) => {
		event.stopPropagation();
		if (input.files[0]) onFile(input.files[0]);
		// So that the same file can be chosen again.
		input.value = "";
	});
	return h(`label.button${tag}`, name && icon(name), h("span", label), input);
}

/**
 * Hand on what is dropped onto an element.
 * @param {HTMLElement} element
 * @param {(file: File) => void} onFile
 */
export function takeDrops(element, onFile) {
	let depth = 0;
	const light = (change) => element.classList.toggle("dropping", (depth += change) > 0);
	const listen = (type, act) => element.addEventListener(type, (event) => event.dataTransfer?.types.includes("Files") && act(event));
	listen("dragenter", () => light(1));
	listen("dragleave", () => light(-1));
	listen("dragover", (event) => event.preventDefault());
	listen("drop", (event) => {
		light(-depth);
		// An inner place has taken it already.
		if (!event.defaultPrevented) onFile(event.dataTransfer.files[0]);
		event.preventDefault();
	});
}

/**
 * Make a small picture of a large one, without ever holding the large one on a canvas.
 * @param {Blob} blob
 * @returns {Promise<Blob|null>} null if the browser can't read it
 */
export async function thumbnail(blob) {
	try {
		const bitmap = await createImageBitmap(blob, { resizeWidth: 240, resizeQuality: "medium" });
		return await toBlob(bitmap, Math.min(1, 240 / bitmap.height), "image/webp");
	} catch {
		return null;
	}
}

/** @param {ImageBitmap} bitmap closed afterwards */
export function toBlob(bitmap, scale, type) {
	const canvas = h("canvas", { width: Math.ceil(bitmap.width * scale), height: Math.ceil(bitmap.height * scale) });
	canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
	bitmap.close();
	return new Promise((resolve) => canvas.toBlob(resolve, type, 0.8));
}

/** One control for each kind of parameter, made from its JSON Schema. */

import { button, changed, fileButton, h, newId, takeDrops } from "./dom.js";
import { stylesControl } from "./styles.js";
import { bytes, text } from "./text.js";

const SLIDER_RANGE = 1000;
const SEGMENTS = 5;
const LONG_TEXTS = ["prompt", "negative_prompt"];

/**
 * @typedef {object} Control
 * @property {HTMLElement} element
 * @property {() => any} get the value to send; undefined: nothing is
 * @property {(value?: any) => void} set nothing: the default
 * @property {boolean} [group] whether it is several controls, which need a legend
 */

/**
 * Name a parameter in words.
 * @param {string} name
 */
export function labelOf(name) {
	const words = name.replaceAll(/[_-]/g, " ");
	return text.form.labels[name] ?? words[0].toUpperCase() + words.slice(1);
}

/**
 * Make the control of a parameter.
 * @param {string} name
 * @param {any} schema
 * @param {() => number} shape the picture's height by its width
 * @returns {Control}
 */
export function makeControl(name, schema, shape) {
	const { type, minimum, maximum, properties, oneOf = [] } = schema;
	const blend = oneOf.find((form) => form.pattern && form.examples);
	if (schema.contentEncoding === "base64") return imageControl(name);
	if (blend) return stylesControl(blend.examples, schema.default);
	if (schema.enum) return (schema.enum.length > SEGMENTS ? selectBox : choice)(name, schema);
	if (type === "boolean") return checkbox(schema);
	if (type === "integer" || type === "number") return (maximum - minimum <= SLIDER_RANGE ? slider : numberBox)(name, schema);
	if (type === "string" || oneOf.some((form) => form.maxLength)) return textBox(name, schema);
	if (properties?.width && properties.height) return sizeBoxes(name, shape);
	return jsonBox(schema);
}

// Nothing is a choice of its own where there is no default.
const choicesOf = (schema) => (schema.default === undefined ? [undefined, ...schema.enum] : schema.enum);

function choice(name, schema) {
	const group = newId();
	const values = choicesOf(schema);
	const none = name === "output_format" ? text.form.sameFormat : text.form.auto;
	const inputs = values.map((value) => h("input.cover", { type: "radio", name: group, value: value ?? "" }));
	const element = h("div.segments", values.map((value, i) => h("label", inputs[i], h("span", String(value ?? none)))));
	const set = (value = schema.default) => (inputs[Math.max(0, values.indexOf(value))].checked = true);
	return { element, get: () => values[inputs.findIndex((input) => input.checked)], set, group: true };
}

function selectBox(name, schema) {
	const values = choicesOf(schema);
	const element = h("select", values.map((value) => h("option", String(value ?? text.form.auto))));
	const set = (value = schema.default) => (element.selectedIndex = Math.max(0, values.indexOf(value)));
	return { element, get: () => values[element.selectedIndex], set };
}

function checkbox(schema) {
	const element = h("input", { type: "checkbox" });
	return { element, get: () => element.checked, set: (value = schema.default) => (element.checked = value ?? false) };
}

const numberOf = (input) => (Number.isNaN(input.valueAsNumber) ? undefined : input.valueAsNumber);

function slider(name, schema) {
	const { minimum: min, maximum: max } = schema;
	const step = schema.type === "integer" ? 1 : max - min <= 2 ? 0.01 : 0.1;
	const label = text.form.number(labelOf(name));
	const box = h("input", { type: "number", min, max, step: "any", "aria-label": label, placeholder: text.form.auto, oninput: () => set(box.value) });
	const range = h("input", { type: "range", min, max, step, oninput: () => (box.value = range.value) });
	function set(value = schema.default ?? "") {
		if (box.value !== String(value)) box.value = value;
		range.value = value === "" ? (schema.default ?? min) : value;
	}
	return { element: h("div.slider", range, box), get: () => numberOf(box), set };
}

function numberBox(name, schema) {
	const input = h("input", { type: "number", step: schema.type === "integer" ? 1 : "any", placeholder: text.form.auto });
	const set = (value = schema.default) => (input.value = value ?? "");
	const draw = () => {
		set(crypto.getRandomValues(new Uint32Array(1))[0]);
		changed(input);
	};
	const dice = name === "seed" && button(".dice", text.form.dice, draw, { icon: "dice" });
	return { element: h("div.row", input, dice), get: () => numberOf(input), set };
}

function textBox(name, schema) {
	const element = LONG_TEXTS.includes(name) ? h("textarea", { rows: 2 }) : h("input", { type: "text" });
	// An empty text is sent only where it takes away a default.
	return { element, get: () => element.value || (schema.default ? "" : undefined), set: (value = schema.default) => (element.value = value ?? "") };
}

function sizeBoxes(name, shape) {
	const [width, height] = [text.form.width, text.form.height].map((side) =>
		h("input", { type: "number", min: 1, "aria-label": `${labelOf(name)}: ${side}`, placeholder: side }));
	function get() {
		const [w, high] = [numberOf(width), numberOf(height)];
		const sides = { width: w ?? Math.round(high / shape()), height: high ?? Math.round(w * shape()) };
		width.placeholder = sides.width || text.form.width;
		height.placeholder = sides.height || text.form.height;
		return w || high ? sides : undefined;
	}
	function set(value) {
		width.value = value?.width ?? "";
		height.value = value?.height ?? "";
	}
	return { element: h("div.row", width, "×", height), get, set, group: true };
}

function imageControl(name) {
	let value;
	let url;
	const thumb = h("div.thumb");
	const facts = h("p.help");
	const remove = button("", text.form.remove, () => { set(); changed(element); }, { icon: "trash" });
	const chooser = fileButton("", text.picture.choose, take, { icon: "upload", "aria-label": `${labelOf(name)}: ${text.picture.choose}` });
	const element = h("div.dropzone.small", thumb, h("div", h("div.row", chooser, remove), facts));
	function set(next) {
		if (url) URL.revokeObjectURL(url);
		value = next;
		url = value && URL.createObjectURL(value.blob);
		thumb.replaceChildren(value ? h("img", { src: url, alt: "" }) : "");
		facts.textContent = value ? `${value.name}, ${bytes(value.blob.size)}` : "";
		remove.hidden = !value;
	}
	function take(file) {
		set({ blob: file, name: file.name });
		changed(element);
	}
	takeDrops(element, take);
	return { element, get: () => value, set, group: true };
}

function jsonBox(schema) {
	const element = h("textarea.mono", { rows: 2, spellcheck: "false" });
	const set = (value = schema.default ?? "") => (element.value = typeof value === "string" ? value : JSON.stringify(value));
	function get() {
		if (!element.value.trim()) return undefined;
		try {
			return JSON.parse(element.value);
		} catch {
			// Many of these take a text too; if this one doesn't, the server says so.
			return element.value;
		}
	}
	return { element, get, set };
}

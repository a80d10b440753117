/** The picker of styles: one, or several with weights. */

import { changed, h, newId } from "./dom.js";
import { text } from "./text.js";

/** styles.webp has a picture for each style of the model that comes along. */
const SHEET = { count: 26, first: "fresco", columns: 6, rows: 5 };

/** Write weights so that they sum to 1. */
function blendText(parts) {
	const sum = parts.reduce((total, [, weight]) => total + weight, 0);
	let left = 1000;
	const shares = parts.map(([, weight]) => Math.round((1000 * weight) / sum));
	return parts.map(([name], i) => {
		const share = i < parts.length - 1 ? Math.min(left, shares[i]) : left;
		left -= share;
		return `${name}:${share / 1000}`;
	}).join(",");
}

/**
 * Make the control.
 * @param {string[]} names of the styles, in the order of their numbers
 * @param {any} initial
 * @returns {import("./field.js").Control}
 */
export function stylesControl(names, initial) {
	const group = newId();
	const isPictured = names.length === SHEET.count && names[0] === SHEET.first;
	const inputs = names.map((value) => h("input.cover", { type: "radio", name: group, value }));
	const tiles = h("div.tiles", { oninput: render }, names.map((name, i) => makeTile(name, i, inputs[i], isPictured)));
	tiles.classList.toggle("words", !isPictured);
	const mix = h("input.mix", { type: "checkbox", oninput: unmix });
	const weights = h("div.weights");

	const picked = () => inputs.filter((input) => input.checked).map((input) => input.value);
	const ranges = () => [...weights.querySelectorAll("input")];

	function render() {
		for (const input of inputs) input.type = mix.checked ? "checkbox" : "radio";
		const before = new Map(ranges().map((range) => [range.name, range.value]));
		const shown = mix.checked && picked().length > 1 ? picked() : [];
		weights.replaceChildren(...shown.map((name) => makeWeight(name, before.get(name) ?? 50)));
	}
	// Only one may stay where only one can be.
	function unmix() {
		if (!mix.checked) for (const input of inputs.filter((one) => one.checked).slice(1)) input.checked = false;
		render();
	}
	// A number, a name, or what `blendText` wrote.
	function set(value = initial) {
		const parts = String(value ?? 0).split(",").map((part) => part.split(":"));
		const weightOf = new Map(parts.map(([name, weight]) => [names[name] ?? name, 100 * weight]));
		mix.checked = parts.length > 1;
		for (const input of inputs) input.checked = weightOf.has(input.value);
		render();
		for (const range of ranges()) range.value = weightOf.get(range.name);
	}
	function get() {
		if (ranges().length) return blendText(ranges().map((range) => [range.name, Number(range.value)]));
		const [name] = picked();
		return name === undefined || name === (names[initial] ?? initial) ? initial : name;
	}
	return { element: h("div", tiles, h("label.row", mix, text.form.mix), weights), get, set, group: true };
}

function makeWeight(name, value) {
	const label = text.form.weight(name);
	return h("label", h("span", name), h("input", { type: "range", name, min: 1, max: 100, value, "aria-label": label }));
}

function makeTile(name, index, input, isPictured) {
	const picture = isPictured && h("span.tile");
	const [x, y] = [index % SHEET.columns, Math.floor(index / SHEET.columns)];
	if (picture) picture.style.backgroundPosition = `${(100 * x) / (SHEET.columns - 1)}% ${(100 * y) / (SHEET.rows - 1)}%`;
	return h("label", { title: name }, input, picture, h("span.tile-name", name));
}

/** The models to choose from, and which runs after the first. */

import { byId, emit, h } from "./dom.js";
import { text } from "./text.js";

const FILTER_FROM = 9;
/** Rows of models.webp; the last stands for any other model. */
const ROWS = ["upscale", "upscale-anime", "upscale-fast", "style", "style-image", "colorize", "inpaint", "edit"];
const ROW_OF_TASK = { "super-resolution": 0, "style-transfer": 3, colorization: 5, inpainting: 6 };

const words = text.models;
const cards = h("div.cards", { role: "radiogroup", "aria-labelledby": "h-model", onchange: tell });
const filter = h("input#filter", { type: "search", "aria-label": words.filter, placeholder: words.filter, hidden: true, oninput: sift });
const second = h("select#then", { onchange: tell });
byId("models").append(filter, cards, h("p.row.then", h("label", { for: "then" }, words.then), second));
/** @type {any[]} of `GET models` */
let models = [];

/** @param {any} model */
const nameOf = (model) => model.alias ?? model.id;
// Those that come along are first, in the order of their pictures.
const rank = (model) => (ROWS.includes(model.alias) ? ROWS.indexOf(model.alias) : ROWS.length);
const radios = () => [...cards.querySelectorAll("input")];
function tell() {
	emit("model");
}

function makeCard(model) {
	const thumb = h("span.model-thumb");
	const row = ROWS.includes(model.alias) ? rank(model) : ROW_OF_TASK[model.task] ?? ROWS.length - 1;
	thumb.style.backgroundPosition = `0 ${(100 * row) / (ROWS.length - 1)}%`;
	const name = nameOf(model);
	return h("label.card", h("input.cover", { type: "radio", name: "model", value: name }), thumb,
		h("span", h("span.card-head", h("strong", name), h("span.state")),
			h("span.what", model.description),
			model.license && h("span.licence.help", words.licence(model.license))));
}

function sift() {
	const wanted = filter.value.toLowerCase().split(/\s+/);
	models.forEach((model, i) => {
		const about = `${model.id} ${nameOf(model)} ${model.task} ${model.description}`.toLowerCase();
		cards.children[i].hidden = !wanted.every((word) => about.includes(word));
	});
}

/** The chosen model's name, or the chain's. */
export function chosenModel() {
	const first = radios().find((radio) => radio.checked)?.value ?? "";
	return second.value ? `${first}+${second.value}` : first;
}

/** What is known of a model by its name, or undefined. */
export const findModel = (name) => models.find((model) => model.alias === name || model.id === name);

/**
 * Show other models, or the same in another state.
 * @param {any[]} found
 */
export function showModels(found) {
	const sorted = [...found].sort((a, b) => rank(a) - rank(b));
	const isSame = sorted.map(nameOf).join() === models.map(nameOf).join();
	models = sorted;
	if (!isSame) {
		cards.replaceChildren(...models.map(makeCard));
		if (!models.length) cards.append(h("p.help", words.empty));
		second.replaceChildren(h("option", { value: "" }, words.nothing), ...models.map((model) => h("option", nameOf(model))));
		filter.hidden = models.length < FILTER_FROM;
		cards.classList.toggle("many", !filter.hidden);
	}
	models.forEach((model, i) => {
		const state = cards.children[i].querySelector(".state");
		state.textContent = words.states[model.state]?.(model) ?? model.state;
		state.dataset.state = model.state;
	});
}

/**
 * Choose a model, or a chain of two.
 * @param {string} name ids or aliases, joined by +
 */
export function chooseModel(name) {
	const [first, next] = name.split("+").map(findModel);
	if (!first) return;
	second.value = next ? nameOf(next) : "";
	radios().find((radio) => radio.value === nameOf(first)).checked = true;
	tell();
}

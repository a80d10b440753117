/** The form of a model, made from the JSON Schema of its parameters. */

import { button, byId, changed, h, newId } from "./dom.js";
import { labelOf, makeControl } from "./field.js";
import { currentPicture } from "./picture.js";
import { text } from "./text.js";

const ADVANCED = ["seed", "loras", "noise_level", "true_cfg_scale", "target_size", "output_format"];
const MASK = "mask_image";

/** One for each stage of a chain, then one for all of it; the only one of a model. */
let groups = [];

const isStage = (schema) => schema.type === "object" && schema.properties && !schema.properties.width;
const fieldsOf = (all) => all.flatMap(({ key, fields }) => fields.map((field) => ({ ...field, path: key ? `${key}.${field.name}` : field.name })));
const shape = () => {
	const { width = 1, height = 1 } = currentPicture() ?? {};
	return height / width;
};

/** Make one field: label, control, help, and a place for what is wrong. */
function makeField(name, schema, required) {
	const control = makeControl(name, schema, shape);
	const help = h(`p.help#${newId()}`, text.form.help[name] ?? schema.description);
	const wrong = h("p.wrong", { hidden: true });
	const label = [labelOf(name), required && h("span.needed", text.form.needed)];
	const input = control.element.matches("input, select, textarea") ? control.element : control.element.querySelector("input");
	if (!control.group) input.id = newId();
	const element = control.group
		? h("fieldset.field", h("legend", label), control.element, help, wrong)
		: h("div.field", h("label", { for: input.id }, label), control.element, help, wrong);
	element.dataset.field = name;
	element.classList.toggle("inline", input.type === "checkbox" && !control.group);
	input.setAttribute("aria-describedby", help.id);
	for (const one of element.querySelectorAll("input, select, textarea")) one.dataset.param = name;
	function mark(words) {
		wrong.textContent = words;
		wrong.hidden = !words;
		if (!control.group) input.setAttribute("aria-invalid", words !== "");
		if (!words) return;
		const details = element.closest("details");
		if (details) details.open = true;
		input.focus();
	}
	function get() {
		const value = control.get();
		return JSON.stringify(value) === JSON.stringify(schema.default) ? undefined : value;
	}
	element.addEventListener("input", () => mark(""));
	control.set();
	return { name, element, get, set: control.set, mark, required };
}

/** Make the fields of a model, or of one stage of a chain. */
function makeGroup(key, properties, required, advancedTitle) {
	const names = Object.keys(properties).filter((name) => name !== MASK);
	// No file is written between two stages.
	const fields = names.filter((name) => !key || name !== "output_format").map((name) => makeField(name, properties[name], required.includes(name)));
	const isAdvanced = (field) => ADVANCED.includes(field.name) && !field.required;
	const show = (some) => some.map((field) => field.element);
	const more = fields.filter(isAdvanced);
	const parts = [
		show(fields.filter((field) => !isAdvanced(field))),
		more.length > 0 && h("details", h("summary", advancedTitle), show(more)),
	];
	const element = key ? h("fieldset.stage-group", h("legend", text.form.stage(key)), parts) : h("div", parts);
	return { key, element, fields, hasMask: MASK in properties };
}

/**
 * Show the form of a model.
 * @param {any} model of `GET models/{id}`; of a chain with `stages`
 */
export function showForm(model) {
	const { properties = {}, required = [] } = model.parameters ?? {};
	const stages = model.stages ?? [];
	const tables = Object.entries(properties).filter(([, schema]) => stages.length && isStage(schema));
	const rest = Object.entries(properties).filter(([name]) => !tables.some(([key]) => key === name));
	const requiredBy = (key) => stages.find((one) => one.stage === key)?.parameters.required ?? [];
	groups = tables.map(([key, schema]) => makeGroup(key, schema.properties, requiredBy(key), text.form.advanced));
	groups.push(makeGroup("", Object.fromEntries(rest), required, tables.length ? text.form.all : text.form.advanced));
	const reset = () => { fillForm({}); changed(byId("form")); };
	byId("form").replaceChildren(...groups.map((group) => group.element), button(".quiet#reset", text.form.reset, reset));
	byId("settings").hidden = false;
}

/** Whether a model is shown. */
export const hasForm = () => groups.length > 0;
/** The stages that take a mask; an empty name is the model's own. */
export const maskKeys = () => groups.filter((group) => group.hasMask).map((group) => group.key);
/** @param {string} name of a parameter */
export const hasField = (name) => fieldsOf(groups).some((field) => field.name === name);

/** What differs from the defaults: for a chain, with a table for each stage. */
export function formValues() {
	const found = {};
	for (const { key, fields } of groups) {
		const pairs = fields.map((field) => [field.name, field.get()]).filter(([, value]) => value !== undefined);
		if (!key) Object.assign(found, Object.fromEntries(pairs));
		else if (pairs.length) found[key] = Object.fromEntries(pairs);
	}
	return found;
}

/**
 * Fill in what `formValues` gave; what is not there becomes its default.
 * @param {any} values
 */
export function fillForm(values) {
	for (const { key, fields } of groups) {
		for (const field of fields) {
			field.mark("");
			field.set((key ? values[key] : values)?.[field.name]);
		}
	}
}

/**
 * Mark the field that an error names.
 * @param {string} message
 */
export function markField(message) {
	fieldsOf(groups).find(({ path }) => message.startsWith(`${path} `) || message.startsWith(`${path}.`))?.mark(message);
}

/** Mark the first field that is needed and empty; tell whether there is one. */
export function markMissing() {
	const field = fieldsOf(groups).find((one) => one.required && one.get() === undefined);
	field?.mark(text.form.missing(labelOf(field.name)));
	return field !== undefined;
}

/** The server's token: asked for when needed, kept until the tab is closed, sent nowhere else. */

import { button, emit, h } from "./dom.js";
import { text } from "./text.js";

const KEY = "calotype-token";
let token = stored((storage) => storage.getItem(KEY)) ?? "";
/** @type {Promise<boolean>|null} */
let asking = null;

// Without storage the token lives as long as the page.
function stored(work) {
	try {
		return work(sessionStorage);
	} catch {
		return null;
	}
}

/** The token, empty if there is none. */
export const currentToken = () => token;

/**
 * Ask for a token; several callers share one question.
 * @param {string} [reason] what was wrong with the last
 * @returns {Promise<boolean>} whether one was entered
 */
export function askToken(reason) {
	asking ??= ask(reason).finally(() => (asking = null));
	return asking;
}

function ask(reason) {
	const field = h("input#token", { type: "password", autocomplete: "off" });
	field.value = token;
	const form = h("form", { method: "dialog" },
		h("h2#h-token", text.key),
		reason && h("p.wrong", reason),
		h("p.help", text.token.help),
		h("label", { for: "token" }, text.token.label), field,
		h("div.row.end",
			button("", text.run.cancel, () => dialog.close()),
			button(".primary#use-token", text.token.use, () => {}, { type: "submit", value: "use" })));
	const dialog = h("dialog#token-dialog", { "aria-labelledby": "h-token" }, form);
	document.body.append(dialog);
	dialog.showModal();
	return new Promise((resolve) => dialog.addEventListener("close", () => {
		dialog.remove();
		const used = dialog.returnValue === "use";
		if (used) keep(field.value.trim());
		resolve(used);
	}));
}

function keep(value) {
	token = value;
	stored((storage) => (value ? storage.setItem(KEY, value) : storage.removeItem(KEY)));
	emit("token");
}

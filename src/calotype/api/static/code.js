/** The tabs that show the request as a program. */

import { button, byId, h } from "./dom.js";
import { curl, javascript, python } from "./snippet.js";
import { text } from "./text.js";

const WRITERS = { curl, python, javascript };
const NAMES = Object.keys(WRITERS);

const tabs = NAMES.map((name) => {
	const props = { type: "button", role: "tab", "aria-controls": `panel-${name}`, onclick: () => select(name) };
	return h(`button#tab-${name}`, props, text.code.tabs[name]);
});
const panels = NAMES.map((name) => h(`div#panel-${name}`, { role: "tabpanel", "aria-labelledby": `tab-${name}` },
	h("pre", { tabindex: 0, role: "region", "aria-labelledby": `tab-${name}` }, h(`code#code-${name}`)), h("p.help.mono", text.code.install[name])));
const copy = button("#copy-code", text.code.copy, copyShown, { icon: "copy", wide: true });
const note = h("p.help");
byId("code").append(h("div.row.tabs", h("div", { role: "tablist", "aria-labelledby": "h-code", onkeydown: press }, tabs), copy), ...panels, note);
let shown = 0;
select(NAMES[0]);

function select(name) {
	shown = NAMES.indexOf(name);
	tabs.forEach((tab, i) => {
		tab.setAttribute("aria-selected", i === shown);
		tab.tabIndex = i === shown ? 0 : -1;
		panels[i].hidden = i !== shown;
	});
}

function press({ key }) {
	const by = { ArrowLeft: 2, ArrowRight: 1 }[key];
	if (!by) return;
	select(NAMES[(shown + by) % NAMES.length]);
	tabs[shown].focus();
}

async function copyShown() {
	const code = byId(`code-${NAMES[shown]}`);
	try {
		await navigator.clipboard.writeText(code.textContent);
	} catch {
		// There is no clipboard where the page came over plain http; a selection can be copied all the same.
		getSelection().selectAllChildren(code);
		document.execCommand("copy");
	}
	copy.lastChild.textContent = text.code.copied;
	setTimeout(() => (copy.lastChild.textContent = text.code.copy), 1500);
}

/**
 * Show a request.
 * @param {import("./snippet.js").Request} request
 * @param {boolean} hasMask
 */
export function showCode(request, hasMask) {
	byId("code").hidden = false;
	for (const name of NAMES) byId(`code-${name}`).textContent = WRITERS[name](request);
	note.textContent = [hasMask && text.code.mask, request.hasToken && text.code.token].filter(Boolean).join(" ");
}

/** The history, to look at. */

import { button, byId, emit, h } from "./dom.js";
import { allRuns, clearRuns, isKept, removeRun } from "./history.js";
import { moment, text } from "./text.js";

const list = h("ul.runs");
const note = h("p.help");
const clear = button(".quiet#clear-history", text.history.clear, () => confirm(text.history.sure) && clearRuns().then(showHistory));
byId("history").append(note, list, clear);
let urls = [];

function makeItem(run) {
	const when = moment(run.at);
	const url = run.thumb && URL.createObjectURL(run.thumb);
	if (url) urls.push(url);
	async function remove() {
		await removeRun(run);
		showHistory();
		(list.querySelector(".run") ?? byId("history")).focus();
	}
	const picture = url ? h("img", { src: url, alt: "" }) : h("span.thumb", "?");
	const open = () => emit("open", run);
	return h("li.history-item",
		h("button.run", { type: "button", onclick: open }, picture, h("strong", run.model), h("span", when)),
		button(".remove", text.history.remove(run.model, when), remove, { icon: "close" }));
}

/** Show the runs. */
export function showHistory() {
	for (const url of urls) URL.revokeObjectURL(url);
	urls = [];
	const runs = allRuns();
	list.replaceChildren(...runs.map(makeItem));
	note.textContent = !isKept() ? text.history.memory : runs.length ? text.history.kept : text.history.empty;
	clear.hidden = !runs.length;
}

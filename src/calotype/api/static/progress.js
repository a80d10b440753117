/** The foot of the form: run, cancel, and how far it is. */

import { button, byId, emit, h } from "./dom.js";
import { duration, text } from "./text.js";

const words = text.run;
const run = button(".primary#run", words.run, () => emit("run"), { "aria-keyshortcuts": "Control+Enter" });
const cancel = button("#cancel", words.cancel, () => emit("cancel"), { "aria-keyshortcuts": "Escape", hidden: true });
const fill = h("span");
const range = { "aria-valuemin": 0, "aria-valuemax": 100 };
const bar = h("div.progress#progress", { role: "progressbar", "aria-label": words.progress, ...range, hidden: true }, fill);
const status = h("span#status");
const clock = h("span.clock");
const keys = h("kbd", words.keys);
byId("runbar").append(bar, h("div.row", run, cancel, h("div.said", status, clock, keys)));
let timer;
let spoken = "";

/** Say in words what a request is doing. */
function describe({ state, stage, place, estimated_time: left, progress }) {
	const said = {
		received: () => words.sending,
		queued: () => words.queued(place),
		loading: () => words.loading(left),
		running: () => (progress?.step ? words.step(progress) : words.running),
	}[state]?.();
	return stage && said ? words.stage(stage, said) : said;
}

function say(said) {
	status.textContent = said;
}

function announce(said) {
	byId("live").textContent = said;
}

function setBusy(busy) {
	const hadFocus = [run, cancel].includes(document.activeElement);
	run.hidden = keys.hidden = busy;
	cancel.hidden = bar.hidden = !busy;
	cancel.disabled = false;
	// What is focused must not vanish under the hands of a keyboard.
	if (hadFocus) (busy ? cancel : run).focus();
}

/** A run begins. */
export function beginProgress() {
	const began = performance.now();
	const tick = () => (clock.textContent = duration(Math.floor((performance.now() - began) / 1000)));
	setBusy(true);
	showProgress({ state: "received" });
	tick();
	timer = setInterval(tick, 1000);
}

/**
 * Show what the server tells.
 * @param {any} state of `requests/{id}`
 */
export function showProgress(state) {
	const said = describe(state);
	if (!said) return;
	say(said);
	const { step, total } = state.progress ?? {};
	const percent = step && Math.round((100 * step) / total);
	bar.classList.toggle("unknown", !percent);
	if (percent) bar.setAttribute("aria-valuenow", percent);
	else bar.removeAttribute("aria-valuenow");
	fill.style.width = percent ? `${percent}%` : "";
	// Every step would be too much to listen to.
	const part = `${state.state} ${state.stage} ${Math.floor((percent ?? 0) / 25)}`;
	if (part !== spoken) announce(said);
	spoken = part;
}

/** The visitor has cancelled; the server may take a moment. */
export function showCancelling() {
	cancel.disabled = true;
}

/**
 * The run is over.
 * @param {string} said the last word; empty where an error has it
 */
export function endProgress(said) {
	clearInterval(timer);
	clock.textContent = spoken = "";
	say(said);
	announce(said);
	setBusy(false);
}

/** The page: joins the picture, the model, the form, the run and what is shown of it. */

import { showCode } from "./code.js";
import { button, byId, h, on, thumbnail } from "./dom.js";
import { fillForm, formValues, hasField, hasForm, markField, markMissing, maskKeys, showForm } from "./form.js";
import { showHistory } from "./gallery.js";
import { addRun, openHistory } from "./history.js";
import { chooseModel, chosenModel, findModel, showModels } from "./models.js";
import { hasMask, loadMask, maskOfSize } from "./painter.js";
import { currentPicture, setPicture } from "./picture.js";
import { hideProblem, showProblem } from "./problem.js";
import { beginProgress, endProgress, showCancelling, showProgress } from "./progress.js";
import { fileName, showFacts } from "./result.js";
import { start } from "./run.js";
import { getJson, modelPath, ServerError, serverUrl } from "./server.js";
import { setMasking, setPreview, showInput, showResult } from "./stage.js";
import { text } from "./text.js";
import { toggleTheme } from "./theme.js";
import { askToken, currentToken } from "./token.js";

const NARROW = "(max-width: 899px)";

/** What the server says of itself. */
let info = null;
/** Whose form is shown, and its name. */
let model = null;
let shown = "";
/** What was set, by the model's name. */
const kept = {};
/** An earlier run whose settings wait for the form of its model. */
let pending = null;
/** @type {ReturnType<typeof start>|null} */
let work = null;
let isBusy = false;
let isCancelled = false;

/** The picture's size before a stage, which a mask there must have. */
function sizeBefore(key, values) {
	let size = currentPicture();
	for (const { stage, scale, parameters } of model.stages ?? []) {
		if (stage === key) break;
		const { target_size: target, scale: own = parameters.properties.scale?.default ?? scale ?? 1 } = values[stage] ?? {};
		size = target ?? { width: size.width * own, height: size.height * own };
	}
	return size;
}

/** The parameters with their masks, which `make` draws at a size. */
async function valuesWith(make) {
	const values = formValues();
	if (!hasMask() || !currentPicture().shown) return values;
	for (const key of maskKeys()) {
		const mask = { name: "mask.png", blob: await make(sizeBefore(key, values)) };
		if (key) values[key] = { ...values[key], mask_image: mask };
		else values.mask_image = mask;
	}
	return values;
}

/** Show the request as a program, as the form is now. */
async function refreshCode() {
	if (!hasForm()) return;
	const values = await valuesWith(() => new Blob());
	const input = currentPicture()?.name ?? "photo.jpg";
	const own = /\.(png|webp|jpe?g)$/i.exec(input)?.[1].toLowerCase().replace("jpg", "jpeg");
	const name = chosenModel();
	showCode({
		url: serverUrl() + modelPath(name),
		input,
		output: fileName(input, name, `image/${values.output_format ?? own ?? "png"}`),
		values,
		hasToken: currentToken() !== "",
	}, hasMask() && maskKeys().length > 0);
}

async function changeModel() {
	const name = chosenModel();
	try {
		const found = findModel(name) ?? (await getJson(modelPath(name)));
		// Another was chosen meanwhile.
		if (name !== chosenModel()) return;
		model = found;
	} catch (error) {
		return showProblem(error, info, changeModel);
	}
	if (shown) kept[shown] = formValues();
	shown = name;
	showForm(model);
	const old = pending?.model === name && pending.values;
	setMasking(maskKeys().length > 0, old);
	// A chain begins as its models do.
	restoreValues(old || (kept[name] ?? Object.fromEntries((model.stages ?? []).map(({ stage }) => [stage, kept[stage]]))));
	pending = null;
	refreshCode();
}

function restoreValues(values) {
	fillForm(values);
	for (const key of maskKeys()) {
		const mask = (key ? values[key] : values)?.mask_image;
		if (mask) loadMask(mask.blob);
	}
}

async function run() {
	if (isBusy || !hasForm()) return;
	hideProblem();
	const { blob, name } = currentPicture() ?? {};
	if (!blob) {
		showProblem(new ServerError(text.picture.none));
		return byId("file").focus();
	}
	if (markMissing()) return;
	const job = { at: Date.now(), model: chosenModel(), picture: { blob, name } };
	isBusy = true;
	isCancelled = false;
	beginProgress();
	try {
		const values = await valuesWith(maskOfSize);
		work = start({ model: job.model, picture: blob, values, info, onState });
		const answer = { ...job, values, ...(await work.answer) };
		endProgress(text.run.done(answer.facts.seconds));
		await open(answer);
		await addRun({ ...answer, thumb: await thumbnail(answer.result) });
		showHistory();
	} catch (error) {
		endProgress(isCancelled ? text.run.cancelled : "");
		if (!isCancelled) fail(error);
	} finally {
		isBusy = false;
		work = null;
		setPreview(null);
		refreshModels();
	}
}

function onState(state) {
	showProgress(state);
	setPreview(state.preview);
}

function fail(error) {
	showProblem(error, info, run);
	if (error.status === 422) markField(error.message);
}

function cancel() {
	if (!work) return;
	isCancelled = true;
	showCancelling();
	work.cancel();
}

/** Show a run's result. */
async function open({ result, facts, model: name, picture }) {
	const size = await showResult(result, picture.blob, name);
	const file = fileName(picture.name, name, facts.type);
	const again = () => {
		fillForm({ ...formValues(), seed: undefined });
		run();
	};
	const canAgain = facts.seed !== null && name === chosenModel() && hasField("seed");
	showFacts(result, facts, size, file, { use: () => setPicture(result, file), again: canAgain ? again : null });
	if (matchMedia(NARROW).matches) byId("stage").scrollIntoView();
}

/** Bring back an earlier run: picture, settings and result. */
async function restore(old) {
	await setPicture(old.picture.blob, old.picture.name);
	pending = old;
	chooseModel(old.model);
	await open(old);
}

async function refreshModels() {
	try {
		showModels(await getJson("models"));
	} catch {
		// The states shown are old; the next run says what is wrong.
	}
}

async function load() {
	try {
		const [found, about] = await Promise.all([getJson("models"), getJson("info")]);
		info = about;
		showModels(found);
		chooseModel(findModel(info.default_model) ? info.default_model : found[0]?.id ?? "");
		byId("about").replaceChildren(text.about(info.version), h("a", { href: "openapi.json" }, text.openapi));
	} catch (error) {
		showProblem(error, null, load);
	}
}

for (const element of document.querySelectorAll("[data-text]")) element.textContent = text.static[element.dataset.text];
byId("tools").append(
	button("#key", text.key, () => askToken(), { icon: "key" }),
	button("#theme", text.theme, toggleTheme, { icon: "theme" }),
);
on("picture", () => { hideProblem(); showInput(); refreshCode(); });
on("mask", refreshCode);
on("model", changeModel);
on("run", run);
on("cancel", cancel);
on("open", restore);
on("token", () => info && refreshModels().then(refreshCode));
byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("form").addEventListener("input", refreshCode);
addEventListener("beforeunload", (event) => isBusy && event.preventDefault());
document.addEventListener("visibilitychange", () => document.hidden || isBusy || !info || refreshModels());
document.addEventListener("keydown", (event) => {
	if (byId("token-dialog")) return;
	if (event.key === "Escape") cancel();
	if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
	event.preventDefault();
	run();
});
load();
openHistory().then(showHistory);

/** The runs of this browser, kept in IndexedDB; in memory where there is none. */

const [DATABASE, STORE] = ["calotype", "runs"];
const MOST_RUNS = 30;
const MOST_BYTES = 100e6;

/**
 * @typedef {object} Run
 * @property {number} at milliseconds since 1970; also its key
 * @property {string} model
 * @property {any} values
 * @property {{blob: Blob, name: string}} picture
 * @property {Blob} result
 * @property {any} facts
 * @property {Blob|null} thumb
 */
/** @type {Run[]} newest first */
let runs = [];
/** @type {IDBDatabase|null} */
let database = null;

const done = (request) => new Promise((resolve, reject) => {
	request.onsuccess = () => resolve(request.result);
	request.onerror = () => reject(request.error);
});
const store = () => database.transaction(STORE, "readwrite").objectStore(STORE);

/** Read what is kept. */
export async function openHistory() {
	try {
		const request = indexedDB.open(DATABASE, 1);
		request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "at" });
		database = await done(request);
		runs = (await done(store().getAll())).reverse();
	} catch {
		// A private window may refuse: these runs live as long as the page.
		database = null;
	}
}

/** All runs, newest first. */
export const allRuns = () => runs;
/** Whether they outlive the page. */
export const isKept = () => database !== null;

async function write(change) {
	try {
		if (database) await done(change(store()));
	} catch {
		// The disk is full, or this browser keeps no files: go on without.
		database = null;
	}
}

function bytesOf(value) {
	if (value instanceof Blob) return value.size;
	return value && typeof value === "object" ? Object.values(value).reduce((sum, part) => sum + bytesOf(part), 0) : 0;
}

/** @param {Run} run */
export async function addRun(run) {
	runs = [run, ...runs];
	await write((kept) => kept.put(run));
	let bytes = 0;
	const surplus = runs.filter((one, i) => (bytes += bytesOf(one)) > MOST_BYTES || i >= MOST_RUNS);
	for (const old of surplus) await removeRun(old);
}

/** @param {Run} run */
export async function removeRun(run) {
	runs = runs.filter((one) => one !== run);
	await write((kept) => kept.delete(run.at));
}

/** Delete all. */
export async function clearRuns() {
	runs = [];
	await write((kept) => kept.clear());
}

"use strict";
// Keeps the page up to date, follows the log, and sends actions after asking. It makes no markup of its own from data:
// the server renders the page, and texts are set as texts.

const PERIOD = 2000;
const MOST_LINES = 500;
const root = document.body.dataset.root;
const byId = (id) => document.getElementById(id);

function report(text, bad) {
  const status = byId("status");
  status.textContent = text;
  status.classList.toggle("bad", Boolean(bad));
}

// ---- live updates -------------------------------------------------------------------------------------------------

let paused = false;

/** Replace an element by its newer form, and leave the focus where it was. */
function replace(old, fresh) {
  if (old.outerHTML === fresh.outerHTML) return;
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  old.replaceWith(document.adoptNode(fresh));
  if (focused) byId(focused)?.focus({ preventScroll: true });
}

/** Bring the rows of a table to the order and content of the newer one, row by row. */
function replaceRows(old, fresh) {
  const known = new Map([...old.children].map((row) => [row.id, row]));
  let place = old.firstElementChild;
  for (const row of [...fresh.children]) {
    const before = known.get(row.id);
    known.delete(row.id);
    if (before === undefined) {
      old.insertBefore(document.adoptNode(row), place);
      continue;
    }
    if (before === place) place = place.nextElementSibling;
    else old.insertBefore(before, place);
    row.hidden = before.hidden;
    replace(before, row);
  }
  for (const row of known.values()) row.remove();
}

async function update() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error" });
  if (answer.status === 401) {
    location.reload();
    return;
  }
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(old.id);
    if (fresh) replace(old, fresh);
  }
  for (const old of document.querySelectorAll("[data-live-rows]")) {
    const fresh = page.getElementById(old.id);
    if (fresh) replaceRows(old, fresh);
  }
  filter();
}

let failing = false;

async function tick() {
  if (!paused && !document.hidden && !byId("confirm").open) {
    try {
      await update();
      if (failing) report("The server answers again.");
      failing = false;
    } catch (error) {
      if (!failing) report(`No news from the server: ${error.message}`, true);
      failing = true;
    }
  }
  setTimeout(tick, PERIOD);
}

byId("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.currentTarget.setAttribute("aria-pressed", String(paused));
});

if (document.querySelector("[data-live]")) setTimeout(tick, PERIOD);

// ---- filter -------------------------------------------------------------------------------------------------------

function filter() {
  const field = byId("filter");
  if (!field) return;
  const wanted = field.value.trim().toLowerCase();
  let shown = 0;
  for (const row of byId("rows").children) {
    row.hidden = !row.dataset.name.toLowerCase().includes(wanted);
    shown += row.hidden ? 0 : 1;
  }
  byId("none-found").hidden = shown > 0 || wanted === "";
}

byId("filter")?.addEventListener("input", filter);
document.querySelector("[data-filter]")?.addEventListener("submit", (event) => event.preventDefault());

// ---- actions ------------------------------------------------------------------------------------------------------

function confirmed(question, label) {
  const dialog = byId("confirm");
  byId("question").textContent = question;
  byId("answer").textContent = label;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((settle) => {
    dialog.addEventListener("close", () => settle(dialog.returnValue === "yes"), { once: true });
  });
}

async function act(button) {
  const { method, path, question, body } = button.dataset;
  const label = button.textContent.trim();
  if (!(await confirmed(question, label))) return;
  report(`${label} …`);
  try {
    const answer = await fetch(root + path, {
      method,
      body: method === "DELETE" ? undefined : body,
      headers: { "content-type": "application/json", "x-wasm-admin": "dashboard" },
    });
    const problem = answer.ok ? "" : (await answer.json()).detail;
    report(answer.ok ? `${label}: done.` : `${label}: ${problem}`, !answer.ok);
    await update();
  } catch (error) {
    report(`${label}: ${error.message}`, true);
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-method]");
  if (button) act(button);
});

// ---- the log of a function ----------------------------------------------------------------------------------------

const log = document.querySelector("[data-log]");
if (log) {
  const source = new EventSource(root + log.dataset.log);
  source.addEventListener("open", () => (byId("log-state").textContent = "Lines appear as they come."));
  source.addEventListener("error", () => (byId("log-state").textContent = "Not connected; it is tried again."));
  source.addEventListener("line", (event) => {
    const line = JSON.parse(event.data);
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    const shown = document.createElement("div");
    shown.className = line.level.toLowerCase();
    shown.textContent = `${line.time} ${line.level} v${line.version} ${line.message}`;
    log.append(shown);
    while (log.children.length > MOST_LINES) log.firstElementChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  });
}

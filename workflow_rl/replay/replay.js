// Shows a recorded episode step by step. The recording is in the page; `frames[t]` is how things stood after step t.
"use strict";

const recording = JSON.parse(document.getElementById("recording").textContent);
const { frames, hosts } = recording;
const LAST = frames.length - 1;
const STEP_MILLISECONDS = 900;

const HOLD = ["nothing", "user", "root"];
const HOLD_CLASS = ["", "user", "privileged"];
const BELIEF = ["clean", "?", "user", "root"];
const ACTIVITY = { 0: "", 1: "scan", 3: "exploit" };

const BLUE_WORDS = {
  Sleep: "does nothing",
  Monitor: "watches the network",
  Analyse: "looks for malware on {}",
  Remove: "removes the sessions it noticed on {}",
  Restore: "sets {} back to its start",
};
const RED_WORDS = {
  Sleep: "does nothing",
  DiscoverRemoteSystems: "sweeps the {} subnet for hosts",
  DiscoverNetworkServices: "scans {} for open ports",
  ExploitRemoteService: "tries to get into {}",
  PrivilegeEscalate: "tries to become root or SYSTEM on {}",
  Impact: "tries to stop the service of {}",
};

const element = (id) => document.getElementById(id);
const share = (rate) => (rate === null ? "–" : `${(100 * rate).toFixed(0)} %`);
const decoyName = (action) => action.replace("Decoy", "");

/** "Restore User4" in words, with the action's own name behind them. */
function inWords(words, action) {
  const [kind, target] = action.split(" ");
  const sentence = kind.startsWith("Decoy") ? `sets up the decoy ${decoyName(kind)} on {}` : words[kind] ?? kind;
  return `${sentence.replace("{}", target ?? "")} (${kind})`;
}

const aimOf = (action) => (action === null ? undefined : action.split(" ")[1]);

function describeChanges(frame, before) {
  if (before === undefined) return "–";
  const changed = hosts.flatMap((host, h) =>
    frame.red_access[h] === before.red_access[h]
      ? []
      : [`${host.name}: ${HOLD[before.red_access[h]]} → ${HOLD[frame.red_access[h]]}`],
  );
  return changed.length ? `red’s hold on ${changed.join("; ")}` : "nothing that red holds";
}

function describeVerdict(frame, before) {
  const { fix } = frame.true;
  if (fix === "none") return "";
  if (fix === "needless") return "A needless fix: red held nothing that blue could take.";
  if (fix === "compliant") return "A fix in order.";
  const seen = { compliant: "in order", violating: "out of order too", needless: "needless" }[frame.observed.fix];
  return `▼ A fix out of order: ${before.true.first_type} came first. As blue saw it, it was ${seen}.`;
}

function showHost(h, frame) {
  const card = element(`host-${hosts[h].name}`);
  const hold = frame.red_access[h];
  const decoys = frame.decoys[h];
  card.setAttribute("class", `host ${HOLD_CLASS[hold]}`);
  card.classList.toggle("is-missed", hold > 0 && frame.belief[h] === 0 && hosts[h].name !== "User0");
  card.classList.toggle("is-aim-of-red", aimOf(frame.red_action) === hosts[h].name);
  card.classList.toggle("is-aim-of-blue", aimOf(frame.blue_action) === hosts[h].name);
  card.querySelector(".hold").textContent = HOLD[hold];
  card.querySelector(".belief").textContent = `blue: ${BELIEF[frame.belief[h]]}`;
  card.querySelector(".activity").textContent = ACTIVITY[frame.activity[h]];
  card.querySelector(".decoys").textContent = decoys.length ? `◆ ${decoys.length}` : "";
  card.querySelector("title").textContent = `${hosts[h].name}, decoys: ${decoys.map(decoyName).join(", ") || "none"}`;

  const cells = element("hosts").rows[h].cells;
  cells[2].textContent = HOLD[hold];
  cells[3].textContent = BELIEF[frame.belief[h]];
  cells[4].textContent = ACTIVITY[frame.activity[h]];
  cells[5].textContent = decoys.map(decoyName).join(", ");
}

function showWorkflow(frame, before) {
  for (const item of element("workflow").children) {
    item.classList.toggle("is-first-true", item.dataset.type === frame.true.first_type);
    item.classList.toggle("is-first-observed", item.dataset.type === frame.observed.first_type);
  }
  element("verdict").textContent = describeVerdict(frame, before);
  element("verdict").className = `verdict is-${frame.true.fix}`;
  element("compliance").textContent = share(frame.true.compliance);
  element("observed-compliance").textContent = share(frame.observed.compliance);
}

let shown = 0;

/** Show a step; one beyond the ends is the first or the last. */
function show(step) {
  shown = Math.min(Math.max(step, 0), LAST);
  const frame = frames[shown];
  const before = frames[shown - 1];
  hosts.forEach((_, h) => showHost(h, frame));
  element("step").textContent = shown;
  element("blue-action").textContent = frame.blue_action === null ? "–" : inWords(BLUE_WORDS, frame.blue_action);
  element("red-action").textContent = frame.red_action === null ? "–" : inWords(RED_WORDS, frame.red_action);
  element("changes").textContent = describeChanges(frame, before);
  element("reward").textContent = frame.reward.toFixed(1);
  element("total-reward").textContent = frame.total_reward.toFixed(1);
  if (frame.true !== null) showWorkflow(frame, before);
  element("slider").value = shown;
  element("slider").setAttribute("aria-valuetext", `step ${shown} of ${LAST}`);
  element("now").setAttribute("x", shown - 0.5);
  element("link").href = `#step=${shown}`;
  history.replaceState(null, "", `#step=${shown}`);
}

/** The step that the address names, 0 if it names none. */
function stepOfAddress() {
  const step = /^#step=(\d+)$/.exec(location.hash);
  return step === null ? 0 : Number(step[1]);
}

let timer = null;

function pause() {
  clearInterval(timer);
  timer = null;
  element("play").textContent = "Play";
}

function play() {
  if (shown === LAST) show(0);
  element("play").textContent = "Pause";
  timer = setInterval(() => {
    show(shown + 1);
    if (shown === LAST) pause();
  }, STEP_MILLISECONDS / Number(element("speed").value));
}

const toggle = () => (timer === null ? play() : pause());

function go(step) {
  pause();
  show(step);
}

function drawShape(name, attributes) {
  const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
  element("course").append(shape);
}

/** A bar for what each step cost, on a square-root scale so that small losses show too, and a mark for each
 *  fix out of order. One unit across is one step. */
function drawCourse() {
  const [top, height] = [10, 30];
  const worst = Math.max(...frames.map((frame) => -frame.reward), 0.1);
  element("course").setAttribute("viewBox", `-0.5 0 ${LAST + 1} ${top + height}`);
  drawShape("rect", { id: "now", class: "now", x: -0.5, y: 0, width: 1, height: top + height });
  for (const frame of frames) {
    const loss = height * Math.sqrt(-frame.reward / worst);
    drawShape("rect", { class: "loss", x: frame.step - 0.35, y: top + height - loss, width: 0.7, height: loss });
    if (frame.true?.fix === "violating") {
      const [left, right] = [frame.step - 0.5, frame.step + 0.5];
      drawShape("path", { class: "violation", d: `M ${left} 0 H ${right} L ${frame.step} ${top - 1} Z` });
    }
  }
}

function fillTable() {
  for (const host of hosts) {
    const row = element("hosts").insertRow();
    for (const text of [host.name, host.type, "", "", "", ""]) row.insertCell().textContent = text;
  }
}

const KEYS = {
  " ": toggle,
  ArrowLeft: () => go(shown - 1),
  ArrowRight: () => go(shown + 1),
  Home: () => go(0),
  End: () => go(LAST),
};

function onKey(event) {
  const isTaken = event.target.closest("select, summary, a") || (event.key === " " && event.target.closest("button"));
  if (event.ctrlKey || event.altKey || event.metaKey || isTaken || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
}

fillTable();
drawCourse();
show(stepOfAddress());

document.addEventListener("keydown", onKey);
window.addEventListener("hashchange", () => go(stepOfAddress()));
element("slider").addEventListener("input", (event) => go(Number(event.target.value)));
element("play").addEventListener("click", toggle);
element("first").addEventListener("click", () => go(0));
element("back").addEventListener("click", () => go(shown - 1));
element("forward").addEventListener("click", () => go(shown + 1));
element("last").addEventListener("click", () => go(LAST));
element("speed").addEventListener("change", () => {
  if (timer === null) return;
  pause();
  play();
});

// What pages gain where scripts run: local times, buttons to copy, and a form that is sent only once.
"use strict";

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const when = new Date(time.dateTime);
    if (!Number.isNaN(when.valueOf())) time.title = exact.format(when);
  }
}

function copyButtons(root) {
  if (!navigator.clipboard) return; // browsers have none on pages that are neither HTTPS nor this machine's own
  for (const block of root.querySelectorAll("pre.command:not([data-copies])")) {
    block.dataset.copies = "";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    const frame = document.createElement("div");
    frame.className = "copies";
    block.replaceWith(frame);
    frame.append(block, button);
  }
}

function enhance(root) {
  localTimes(root);
  copyButtons(root);
  root.querySelector("main [data-focus]")?.focus(); // the first field of the form that was opened
}

// MLflow's client prints addresses of its own pages, such as /#/experiments/1/runs/….
const elsewhere = [
  [/^#\/experiments\/[^/]+\/runs\/([^/?]+)/, "runs/$1"],
  [/^#\/experiments\/([^/?]+)/, "experiments/$1"],
  [/^#\/models\/([^/]+)\/versions\/([^/?]+)/, "models/$1/versions/$2"],
  [/^#\/models\/([^/?]+)/, "models/$1"],
];
if (document.body.dataset.home !== undefined) {
  for (const [pattern, page] of elsewhere) {
    const found = location.hash.match(pattern);
    if (found) {
      location.replace(found.slice(1).reduce((path, part, number) => path.replace(`$${number + 1}`, () => part), page));
      break;
    }
  }
}

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (event.target.method !== "post" || !button) return;
  if (event.target.dataset.sent) { event.preventDefault(); return; }
  event.target.dataset.sent = "yes";
  button.setAttribute("aria-busy", "true");
  document.body.classList.add("working");
});

function takeFormsAgain() {
  document.body.classList.remove("working");
  for (const form of document.forms) delete form.dataset.sent;
  for (const button of document.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
}

// After the back button brought a page back, and after an answer that was put into this one.
addEventListener("pageshow", takeFormsAgain);
document.addEventListener("htmx:finally:request", (event) => {
  if (event.target instanceof HTMLFormElement) takeFormsAgain();
});

document.addEventListener("htmx:after:settle", () => enhance(document));
enhance(document);

// Keeps the live part of a page up to date while somebody looks at it.
"use strict";

const region = document.getElementById("live").dataset;
const stream = new URL(region.stream, location).href;

function refresh() {
  document.getElementById("live").dispatchEvent(new CustomEvent("news"));
}

function hear({ kind, data }) {
  if (kind === "alias") {
    const { name, alias, from, to } = JSON.parse(data);
    const what = `@${alias} of ${name}`;
    document.getElementById("news").textContent = to
      ? `${what} was moved ${from ? `from version ${from} ` : ""}to version ${to}.` : `${what} was deleted.`;
  }
  refresh();
}

// Where browsers know no shared workers, each tab that is looked at listens for itself.
function listenAlone() {
  let source = null;
  return (isLooking) => {
    source?.close();
    source = isLooking ? new EventSource(stream) : null;
    for (const kind of ["alias", "gateways", "reset"]) {
      source?.addEventListener(kind, ({ data }) => hear({ kind, data }));
    }
  };
}

function listenTogether() {
  const { port } = new SharedWorker(region.worker);
  port.onmessage = ({ data }) => hear(data);
  return (isLooking) => port.postMessage({ isLooking, stream });
}

const look = window.SharedWorker ? listenTogether() : listenAlone();

function tell() {
  look(document.visibilityState === "visible");
}

document.addEventListener("visibilitychange", () => {
  tell();
  if (document.visibilityState === "visible") refresh();
});
addEventListener("pagehide", () => look(false));
addEventListener("pageshow", tell);

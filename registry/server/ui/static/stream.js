// One event stream for all tabs of a browser: open while a tab that is looked at wants it, closed while all are hidden.
"use strict";

const looking = new Set();
let source = null;
let cursor = "";

function open(address) {
  source = new EventSource(cursor ? `${address}?cursor=${encodeURIComponent(cursor)}` : address);
  for (const kind of ["alias", "gateways", "reset"]) {
    source.addEventListener(kind, (event) => {
      if (event.lastEventId) cursor = event.lastEventId;
      for (const port of looking) port.postMessage({ kind, data: event.data });
    });
  }
}

onconnect = (connection) => {
  const port = connection.ports[0];
  port.onmessage = ({ data }) => {
    if (data.isLooking) looking.add(port); else looking.delete(port);
    if (looking.size && !source) open(data.stream);
    if (!looking.size && source) { source.close(); source = null; }
  };
};

// @ts-check
// The alerts that fire, for the overview.

import { Moment, NumberLink, Pill } from "./components.js";
import { address, ask, number } from "./parts.js";
import { html } from "./view.js";

/** Those that fire or are about to; none where they can't be asked for, as for lack of rights. */
export async function firingAlerts() {
  const { status, body } = await ask("alerts").catch(() => ({ status: 0, body: null }));
  const all = status === 200 && body ? body.alerts : [];
  return all.filter((alert) => alert.status === "firing" || alert.status === "pending");
}

/** Nothing where none fires. */
export function Alerting({ firing }) {
  if (!firing.length) return null;
  return html`<section class="alerting" aria-label="Alerts that fire">
    <ul>
      ${firing.map(
        (alert) =>
          html`<li key=${alert.name}>
            <${Pill} status=${alert.status} /> <a href="#/alerts">${alert.name}</a>
            <span class="quiet">${alert.summary}</span>
            ${alert.groups.slice(0, 1).map((group) => html`<${First} ...${group} />`)}
          </li>`,
      )}
    </ul>
  </section>`;
}

/** The group that comes first: its value now, which leads to the traces of its last window. */
function First({ judged, filters, since_unix_ns: since }) {
  const said = judged === null ? "no data" : number.format(Number(judged.toPrecision(4)));
  return html`<span class="quiet">
    now <${NumberLink} href=${filters ? `#/traces${address("", filters)}` : ""} said=${said} />, since${" "}
    <${Moment} ns=${since} />
  </span>`;
}

// @ts-check
// The alerts that fire, for the overview.

import { Moment, Pill } from "./components.js";
import { ask } from "./parts.js";
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
            ${alert.groups
              .slice(0, 1)
              .map((group) => html`<span class="quiet">since <${Moment} ns=${group.since_unix_ns} /></span>`)}
          </li>`,
      )}
    </ul>
  </section>`;
}

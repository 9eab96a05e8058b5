// @ts-check
// The alerts that fire, for the overview.

import { Moment, Pill, useAnswer } from "./components.js";
import { html } from "./view.js";

/** Nothing where none fires. */
export function Alerting({ again }) {
  const { body } = useAnswer("alerts", again);
  const firing = (body ? body.alerts : []).filter(
    ({ status }) => status === "firing" || status === "pending",
  );
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

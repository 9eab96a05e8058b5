// @ts-check
// Alerts with their states, and the channels that carry notifications.

import { Clip, Empty, Moment, NumberLink, Pill, Table } from "./components.js";
import { address, get, moment, number } from "./parts.js";
import { html } from "./view.js";

const figure = (value) =>
  value === null || value === undefined ? "" : number.format(Number(value.toPrecision(4)));
/** The value of a group, which leads to the traces of its last window. */
const linked = (value, group) =>
  html`<${NumberLink}
    href=${group?.filters ? `#/traces${address("", group.filters)}` : ""}
    said=${figure(value)}
  />`;
const named = (group) =>
  Object.entries(group)
    .map(([name, value]) => `${name} ${value === null ? "(none)" : value}`)
    .join(", ");
const state = (row) => html`<${Pill} status=${row.status} />`;

// the value is that of the group that comes first: one that fires, else the one with the largest sample
const ALERTS = [
  { title: "Alert", words: true, cell: (alert) => alert.name },
  { title: "State", words: true, cell: state },
  { title: "Fires if", words: true, cell: (alert) => alert.summary },
  { title: "Value", cell: (alert) => linked(alert.groups[0]?.judged, alert.groups[0]) },
  { title: "Evaluated", words: true, cell: (alert) => html`<${Moment} ns=${alert.evaluated_unix_ns} />` },
  { title: "Channels", words: true, cell: (alert) => alert.channels.join(", ") || "none" },
  { title: "Note", words: true, cell: note },
];

const GROUPS = [
  { title: "Alert", words: true, cell: (row) => row.alert },
  { title: "Group", words: true, cell: (row) => named(row.group) || "all" },
  { title: "State", words: true, cell: state },
  { title: "Value", cell: (row) => linked(row.judged, row) },
  { title: "Sample", cell: (row) => linked(row.sample, row) },
  { title: "Since", words: true, cell: (row) => html`<${Moment} ns=${row.since_unix_ns} />` },
  { title: "Told", words: true, cell: (row) => row.told.join(", ") || "nobody" },
];

const CHANNELS = [
  { title: "Channel", words: true, cell: (channel) => channel.name },
  { title: "Type", words: true, cell: (channel) => channel.type },
  { title: "Waiting", cell: (channel) => number.format(channel.pending) },
  { title: "Dead letters", cell: (channel) => number.format(channel.dead_letters) },
  {
    title: "Last error",
    words: true,
    cell: (channel) => html`<${Clip} text=${channel.last_error || ""} tone="bad" />`,
  },
];

function note(alert) {
  if (alert.trouble) return `Can't be evaluated: ${alert.trouble}`;
  if (alert.asleep_until_unix_ns) return `Silent until ${moment(alert.asleep_until_unix_ns)}`;
  return alert.more_groups ? "There are more groups than are watched" : "";
}

function Show({ data: { alerts: all, channels } }) {
  if (!all.length)
    return html`<h2>Alerts</h2>
      <${Empty} title="No alerts are configured.">
        <p class="quiet">Write [[alerts]] tables into the settings.</p>
      <//>`;
  const beyond = all.flatMap((alert) =>
    alert.groups.filter((group) => group.status !== "ok").map((group) => ({ ...group, alert: alert.name })),
  );
  const part = (title, label, columns, rows) =>
    rows.length
      ? html`<h2>${title}</h2>
          <${Table} ...${{ label, columns, rows }} />`
      : null;
  return html`${part("Alerts", "Alerts", ALERTS, all)}
  ${part("Beyond their thresholds", "Groups", GROUPS, beyond)}
  ${part("Channels", "Channels", CHANNELS, channels)}`;
}

export const alerts = { title: "Alerts", load: () => get("alerts"), Show, live: true };

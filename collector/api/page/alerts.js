// @ts-check
// Alerts with their states, and the channels that carry notifications.

import { ago, empty, get, make, moment, number, table } from "./parts.js";

const TONES = { ok: "good", pending: "warn", firing: "bad", unknown: "warn" };

const figure = (value) =>
  value === null || value === undefined ? "" : number.format(Number(value.toPrecision(4)));
const state = (status) => make("span", { className: `pill small ${TONES[status] || "warn"}`, text: status });
const named = (group) =>
  Object.entries(group)
    .map(([name, value]) => `${name} ${value === null ? "(none)" : value}`)
    .join(", ");

const ALERTS = [
  { title: "Alert", words: true, cell: (alert) => alert.name },
  { title: "State", words: true, cell: (alert) => state(alert.status) },
  { title: "Fires if", words: true, cell: (alert) => alert.summary },
  { title: "Value", cell: (alert) => figure(worst(alert)) },
  {
    title: "Evaluated",
    words: true,
    wide: true,
    cell: (alert) => (alert.evaluated_unix_ns ? ago(alert.evaluated_unix_ns) : "never"),
  },
  { title: "Channels", words: true, wide: true, cell: (alert) => alert.channels.join(", ") || "none" },
  { title: "Note", words: true, cell: (alert) => make("span", { className: "clip", text: note(alert) }) },
];

const GROUPS = [
  { title: "Alert", words: true, cell: (row) => row.alert },
  { title: "Group", words: true, cell: (row) => named(row.group) || "all" },
  { title: "State", words: true, cell: (row) => state(row.status) },
  { title: "Value", cell: (row) => figure(row.judged) },
  { title: "Sample", wide: true, cell: (row) => figure(row.sample) },
  { title: "Since", words: true, cell: (row) => ago(row.since_unix_ns) },
  { title: "Told", words: true, wide: true, cell: (row) => row.told.join(", ") || "nobody" },
];

const CHANNELS = [
  { title: "Channel", words: true, cell: (channel) => channel.name },
  { title: "Type", words: true, cell: (channel) => channel.type },
  { title: "Waiting", cell: (channel) => number.format(channel.pending) },
  { title: "Dead letters", cell: (channel) => number.format(channel.dead_letters) },
  {
    title: "Last error",
    words: true,
    cell: (channel) => make("span", { className: "bad clip", text: channel.last_error || "" }),
  },
];

/** The value of the group that the table shows first: one that fires, else the largest sample. */
const worst = (alert) => (alert.groups.length ? alert.groups[0].judged : null);

function note(alert) {
  if (alert.trouble) return `Can't be evaluated: ${alert.trouble}`;
  if (alert.asleep_until_unix_ns) return `Silent until ${moment(alert.asleep_until_unix_ns)}`;
  return alert.more_groups ? "There are more groups than are watched" : "";
}

export async function alerts() {
  const found = await get("alerts");
  if (!found.alerts.length) {
    return [empty("No alerts are configured.", "Write [[alerts]] tables into the settings.")];
  }
  const beyond = found.alerts.flatMap((alert) =>
    alert.groups.filter((group) => group.status !== "ok").map((group) => ({ ...group, alert: alert.name })),
  );
  const parts = [make("h2", { text: "Alerts" }), table("Alerts", ALERTS, found.alerts)];
  if (beyond.length) {
    parts.push(make("h2", { text: "Beyond their thresholds" }), table("Groups", GROUPS, beyond));
  }
  if (found.channels.length) {
    parts.push(make("h2", { text: "Channels" }), table("Channels", CHANNELS, found.channels));
  }
  return parts;
}

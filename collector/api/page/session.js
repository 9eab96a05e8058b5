// @ts-check
// One session as a conversation: turn by turn what was said, beside it what the turn took.

import { Messages } from "./chat.js";
import { Figures, Moment, Pill } from "./components.js";
import { address, compact, duration, get, messageOf, money, number, scoreText, sentence } from "./parts.js";
import { html, useCallback, useEffect, useLayoutEffect, useRef, useState } from "./view.js";

const WHOLE = { max_characters: 1000000, max_media_characters: 8000000 };
const FIRST = { max_media_characters: 1500000 };
// turns are read shortly before they come into sight
const AHEAD = "800px";

/** The session's turns as the index has them; what was said in them is asked turn by turn. */
async function loadSession({ id }) {
  return get(sessionPath(id));
}

/** Slashes as they are, since many proxies refuse encoded ones; but browsers take `/../` for the folder above. */
export function sessionPath(id) {
  const isWalk = id.split("/").some((part) => part === "." || part === "..");
  if (isWalk && !id.includes("/")) throw new Error(`A session that is called ${id} has no address.`);
  const path = encodeURIComponent(id);
  return `sessions/${isWalk ? path : path.replaceAll("%2F", "/")}`;
}

function Session({ id, data }) {
  const { sessions, turns, turns_omitted: omitted } = data;
  return html`<h2>${id}</h2>
    ${sessions.map(
      (sums) =>
        html`${sessions.length > 1 && html`<h3>In ${sums.experiment_name || sums.experiment_id}</h3>`}
          <${SessionFigures} sums=${sums} />`,
    )}
    <${Turns} turns=${turns} />
    ${omitted > 0 && html`<p class="quiet">and ${number.format(omitted)} more turns</p>`}`;
}

function Turns({ turns }) {
  const [loading, setLoading] = useState(() => new Set(turns.slice(0, 1).map((turn) => turn.trace_id)));
  const onLoading = useCallback(
    (id, is) => setLoading((old) => new Set(is ? [...old, id] : [...old].filter((each) => each !== id))),
    [],
  );
  // how high a turn is isn't known before it is read: those below it wait, so that nothing moves
  const reading = turns.findIndex((turn) => loading.has(turn.trace_id));
  return html`<ol class="turns">
    ${turns.map(
      (turn, at) =>
        html`<${Turn}
          key=${turn.trace_id}
          ...${{ turn, onLoading }}
          number=${at + 1}
          isWaiting=${reading >= 0 && at > reading}
        />`,
    )}
  </ol>`;
}

function SessionFigures({ sums }) {
  const figures = [
    ["Turns", number.format(sums.turns)],
    ["Errors", number.format(sums.errors)],
    ["Busy time", duration(sums.busy_seconds)],
    ["First to last turn", duration(sums.duration_seconds)],
    ["Tokens", compact(sums.total_tokens)],
    ["Cost", money(sums.cost_usd)],
    ["User", sums.user],
    ["Agents", sums.agents.join(", ")],
  ];
  return html`<${Figures} items=${figures} />`;
}

function Turn({ turn, number: at, isWaiting, onLoading }) {
  return html`<li class=${isWaiting ? "turn behind" : "turn"} id=${`turn-${turn.trace_id}`}>
    <div class="said">
      <${Conversation}
        traceId=${turn.trace_id}
        version=${`${turn.duration_seconds} ${turn.span_count}`}
        onLoading=${onLoading}
      />
    </div>
    <aside aria-label=${`Turn ${at}`}>
      <p>
        <a href=${`#/trace/${turn.trace_id}`}><b>Turn ${at}</b></a>
        ${turn.status !== "OK" && html` <${Pill} status=${turn.status} />`}
      </p>
      <${TurnFacts} turn=${turn} />
    </aside>
  </li>`;
}

function TurnFacts({ turn }) {
  const facts = [
    ["Started", html`<${Moment} ns=${turn.start_unix_ns} />`],
    ["Took", duration(turn.duration_seconds)],
    ["Tokens", compact(turn.total_tokens)],
    ["Cost", money(turn.cost_usd)],
    ["Tool calls", turn.tool_calls ? number.format(turn.tool_calls) : ""],
    ["Errors", turn.error_spans ? html`<span class="bad">${number.format(turn.error_spans)}</span>` : ""],
    ["Scores", (turn.scores || []).length ? turn.scores.map(scoreText).join(", ") : ""],
    ["Agent", turn.agent],
  ];
  return html`<dl class="took">
    ${facts
      .filter(([, said]) => said)
      .map(
        ([label, said]) =>
          html`<div>
            <dt>${label}</dt>
            <dd>${said}</dd>
          </div>`,
      )}
  </dl>`;
}

/**
 * What was said in a trace, read once it comes near the sight, and again when `version` changes.
 * @param {{traceId: string, version?: string, onSpan?: (spanId: string) => void,
 *   onLoading?: (traceId: string, isLoading: boolean) => void}} properties
 */
export function Conversation({ traceId, version = "", onSpan, onLoading }) {
  const place = useRef(/** @type {any} */ (null));
  const [isNear, setNear] = useState(false);
  const [isWhole, setWhole] = useState(false);
  const [found, setFound] = useState(/** @type {any} */ (null));
  useEffect(() => (isNear ? undefined : whenNear(place.current, () => setNear(true))), [isNear]);
  const isLoading = isNear && !found;
  useLayoutEffect(() => {
    if (!onLoading || !isNear) return undefined;
    onLoading(traceId, isLoading);
    return () => onLoading(traceId, false);
  }, [traceId, isNear, isLoading]);
  useEffect(() => {
    if (!isNear) return undefined;
    let isGone = false;
    // as many messages as are shown: a click on one of the last must not take it away
    const shown = found && found.messages ? found.messages.length : 0;
    readMessages(traceId, isWhole ? WHOLE : FIRST, shown).then((read) => isGone || setFound(read));
    return () => {
      isGone = true;
    };
  }, [traceId, version, isNear, isWhole]);
  const more = async () => {
    setFound(await continued(found, traceId, isWhole ? WHOLE : FIRST));
  };
  return html`<div ref=${place} class="conversation" aria-busy=${!found}>
    <${Said}
      found=${found}
      traceId=${traceId}
      onAll=${isWhole ? undefined : () => setWhole(true)}
      onSpan=${onSpan}
      onMore=${more}
    />
  </div>`;
}

function Said({ found, traceId, onAll, onSpan, onMore }) {
  if (!found) return html`<p class="quiet waiting">Loading…</p>`;
  if (!found.messages) return html`<p class="notice">${found.error}</p>`;
  if (!found.messages.length)
    return html`<p class="quiet">
      No messages: the sender records no content, or it was removed before it was stored.
    </p>`;
  const left = found.message_count - found.messages.length;
  return html`<${Messages} messages=${found.messages} onAll=${onAll} onSpan=${onSpan} traceId=${traceId} />
    ${found.error && html`<p class="notice">${found.error}</p>`}
    ${
      left > 0 &&
      html`<button type="button" class="plain small" onClick=${onMore}>
        Show more messages (${number.format(left)})
      </button>`
    }`;
}

function whenNear(element, near) {
  const observer = new IntersectionObserver(
    (entries) => entries.some((entry) => entry.isIntersecting) && near(),
    { rootMargin: AHEAD },
  );
  observer.observe(element);
  return () => observer.disconnect();
}

/** {messages, …}, or {error: why there are none}. */
async function readConversation(traceId, bounds, from = 0) {
  try {
    return await get(
      address(`traces/${encodeURIComponent(traceId)}/conversation`, { from_message: from, ...bounds }),
    );
  } catch (error) {
    return { error: error instanceof Error ? error.message : sentence(messageOf({ status: 0, body: null })) };
  }
}

/** The conversation up to `count` messages at least, as far as there are so many. */
async function readMessages(traceId, bounds, count) {
  let found = await readConversation(traceId, bounds);
  for (let read = 0; found.messages && !found.error && found.messages.length < count;) {
    if (found.messages.length === read || found.messages.length >= found.message_count) break;
    read = found.messages.length;
    found = await continued(found, traceId, bounds);
  }
  return found;
}

async function continued(found, traceId, bounds) {
  const { messages = [], error } = await readConversation(traceId, bounds, found.messages.length);
  return { ...found, messages: [...found.messages, ...messages], error };
}

export const session = {
  title: "Session",
  load: loadSession,
  Show: Session,
  follows: ({ id }) => ({ session: id }),
};

// @ts-check
// The values that there are to filter by. Asked after a view is there: no view waits for them.

import { get } from "./parts.js";
import { useEffect, useState } from "./view.js";

const KEPT_MILLISECONDS = 30000;

/** @type {{at: number, body: any, coming: Promise<any> | null}} kept, because views are redrawn every few seconds */
const known = { at: 0, body: null, coming: null };

const isFresh = () => Date.now() - known.at < KEPT_MILLISECONDS && known.body.experiment.length > 0;

async function facets() {
  if (known.body && isFresh()) return known.body;
  known.coming ??= get("traces/facets").finally(() => {
    known.coming = null;
  });
  known.body = await known.coming;
  known.at = Date.now();
  return known.body;
}

/**
 * The values of each facet; null until they are known, empty if they can't be. `again` has them asked for again when
 * it changes, if they are old by then.
 */
export function useFacets(again) {
  const [body, setBody] = useState(known.body);
  useEffect(() => {
    let wanted = true;
    const set = (found) => wanted && setBody(found);
    facets().then(set, () => set({}));
    return () => {
      wanted = false;
    };
  }, [again]);
  return body;
}

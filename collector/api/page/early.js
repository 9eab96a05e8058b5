// @ts-check
// Runs before app.js, as soon as its few imports are there: asks what the first view will ask, and reads that view's
// scripts, while the rest of the page is on its way.

import { firstPath } from "./first.js";
import { askAhead } from "./parts.js";
import { placeOf } from "./places.js";
import { viewOf, VIEW_NAMES } from "./views.js";

const { name, parameters } = placeOf(location.hash, VIEW_NAMES);
const path = firstPath(name, parameters);
if (path) askAhead(path);
viewOf(name).catch(() => undefined); // app.js asks for it too, and says what went wrong

// @ts-check
// Shows openapi.json and sends requests. Texts of the document and of answers are only ever set as text.

const TIMEOUT_MILLISECONDS = 30000;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// the path prefix under which Sidespan is published; paths in the document start after it
const root = new URL("..", document.baseURI).pathname.replace(/\/$/, "");

function example(schema, schemas) {
  const named = schema.$ref ? schemas[schema.$ref.split("/").pop()] : schema;
  return JSON.stringify(
    Object.fromEntries(
      Object.entries(named.properties ?? {})
        .filter(([, property]) => property.default !== undefined && property.default !== null)
        .map(([name, property]) => [name, property.default]),
    ),
    null,
    1,
  );
}

function section(path, method, operation, schemas) {
  const id = `${method}${path}`.replace(/[^a-z]+/gi, "-");
  const form = element("form", { id });
  for (const parameter of operation.parameters ?? []) {
    const name = `${id}-${parameter.name}`;
    const input = element("input", { id: name, name: parameter.name, "data-in": parameter.in });
    if (parameter.required) input.required = true;
    const repeated = parameter.schema.type === "array" ? " (separate several values by commas)" : "";
    form.append(
      element("label", { for: name }, `${parameter.name}: ${parameter.description}${repeated}`),
      input,
    );
    if (repeated) input.dataset.repeated = "yes";
  }
  const body = operation.requestBody?.content["application/json"].schema;
  if (body) {
    const area = element("textarea", { id: `${id}-body`, name: "body", rows: 6 });
    area.value = example(body, schemas);
    const described = operation.requestBody.description;
    const label = described ? `JSON body: ${described}` : "JSON body";
    form.append(element("label", { for: `${id}-body` }, label), area);
  }
  const button = element("button", {}, "Send");
  const answer = element("pre", { "aria-live": "polite" });
  form.append(button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    answer.textContent = "…";
    try {
      answer.textContent = await send(path, method, form);
    } catch (error) {
      answer.textContent = String(error);
    }
  });
  const title = element(
    "summary",
    {},
    element("code", {}, `${method.toUpperCase()} ${path}`),
    ` ${operation.summary}`,
  );
  return element("details", {}, title, form, answer);
}

async function send(path, method, form) {
  const query = new URLSearchParams();
  let target = path;
  for (const input of form.querySelectorAll("input")) {
    if (input.value === "") continue;
    if (input.dataset.in === "path")
      target = target.replace(`{${input.name}}`, encodeURIComponent(input.value));
    else
      for (const value of input.dataset.repeated
        ? input.value.split(",").map((each) => each.trim())
        : [input.value]) {
        query.append(input.name, value);
      }
  }
  const options = { method: method.toUpperCase(), signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS) };
  const body = form.querySelector("textarea")?.value;
  if (body !== undefined) Object.assign(options, { body, headers: { "content-type": "application/json" } });
  const answer = await fetch(root + target + (query.size ? `?${query}` : ""), options);
  const text = await answer.text();
  let shown = text;
  try {
    shown = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    /* not JSON: as it is */
  }
  return `${answer.status} ${answer.statusText}\n${shown.slice(0, 100000)}`;
}

/** @type {(id: string) => any} */
const at = (id) => document.getElementById(id);

async function show() {
  const answer = await fetch("openapi.json", { signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS) });
  if (!answer.ok) throw new Error(`openapi.json: ${answer.status}`);
  const about = await answer.json();
  at("version").textContent = about.info.version;
  const list = at("endpoints");
  for (const [path, methods] of Object.entries(about.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      list.append(section(path, method, operation, about.components.schemas));
    }
  }
}

show().catch((error) => {
  at("trouble").textContent = String(error);
});

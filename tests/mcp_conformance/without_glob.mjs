const IMPORTED = /globSync as (\w+),/;

export async function load(url, context, next) {
  const loaded = await next(url, context);
  if (!url.endsWith('/conformance/dist/index.js')) return loaded;
  const source = String(loaded.source);
  const [, name] = IMPORTED.exec(source) ?? [];
  if (!name) return loaded;
  const instead = `function ${name}() { throw new Error('needs Node.js 22'); }`;
  return { ...loaded, source: `${source.replace(IMPORTED, '')}\n${instead}\n` };
}

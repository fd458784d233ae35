// What is left of frostline's normaliser for raw texts: the rest is in tokenizer.json beside this
// file. prepare(text) undoes literal \uXXXX escapes and HTML entities, once, in the first 10,000
// characters; the tokenizer then reads what frostline reads of the text.

const NAMED = /* names of HTML's entities, and their characters */ {};
const ODD = /* numbers that HTML reads as something else */ {};
const ESCAPE =
  /\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})/g;
const ENTITY = /&(?:#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,30}));/g;

function escaped(found, high, low, single) {
  const units = (single === undefined ? [high, low] : [single]).map((unit) => parseInt(unit, 16));
  const none = units.length === 1 && (units[0] < 0x20 || (units[0] >= 0xd800 && units[0] <= 0xdfff));
  return none ? found : String.fromCharCode(...units);
}

function character(found, decimal, hex, name) {
  if (name !== undefined) return Object.hasOwn(NAMED, name) ? NAMED[name] : found;
  const code = decimal === undefined ? parseInt(hex, 16) : parseInt(decimal, 10);
  if (Object.hasOwn(ODD, code)) return ODD[code];
  if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return "\ufffd";
  const none = (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) === 0xfffe;
  return none ? "" : String.fromCodePoint(code);
}

export function prepare(text) {
  const cut = text.length > 10000 ? [...text].slice(0, 10000).join("") : text;
  return cut.replace(ESCAPE, escaped).replace(ENTITY, character).replaceAll("&", "&amp;");
}

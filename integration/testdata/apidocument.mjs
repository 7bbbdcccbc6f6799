// The published document of a server as a client: it calls only what
// /v1/openapi.json lists, in the way it says, and holds every answer against it.
// What it is told comes as JSON on its standard input, with at least
// {"server","page"}.
import { webcrypto as crypto } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { strict as assert } from 'node:assert';

export const given = JSON.parse(readFileSync(0, 'utf8'));
const doc = await (await fetch(`${given.server}/v1/openapi.json`)).json();
export const used = new Set();
let token = null;

/** The token that calls are made with from here on. */
export const become = t => { token = t; };

// ---- the document as a client

// fits says what is wrong with a value, by the schema; '' if nothing.
export function fits(schema, value, at = 'body') {
  if (schema.$ref) return fits(doc.components.schemas[schema.$ref.split('/').at(-1)], value, at);
  if (schema.allOf) return schema.allOf.map(s => fits(s, value, at)).find(Boolean) ?? '';
  if (schema.anyOf) return schema.anyOf.some(s => fits(s, value, at) === '') ? '' : `${at} is none of its forms`;
  const kinds = { string: v => typeof v === 'string', integer: Number.isSafeInteger, array: Array.isArray, null: v => v === null, boolean: v => typeof v === 'boolean',
    object: v => v !== null && typeof v === 'object' && !Array.isArray(v) };
  if (schema.type && !kinds[schema.type](value)) return `${at} is no ${schema.type}: ${JSON.stringify(value)}`;
  if (schema.enum && !schema.enum.includes(value)) return `${at} is none of ${schema.enum}: ${value}`;
  if (schema.pattern && !new RegExp(schema.pattern).test(value)) return `${at} does not match ${schema.pattern}: ${value}`;
  if (schema.format === 'uuid' && !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value)) return `${at} is no uuid: ${value}`;
  if (schema.format === 'date-time' && !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(value)) return `${at} is no time: ${value}`;
  if (schema.items) return value.map((v, i) => fits(schema.items, v, `${at}[${i}]`)).find(Boolean) ?? '';
  for (const name of schema.required ?? []) if (!(name in value)) return `${at} has no ${name}`;
  for (const [name, s] of Object.entries(schema.properties ?? {})) {
    const wrong = name in value ? fits(s, value[name], `${at}.${name}`) : '';
    if (wrong) return wrong;
  }
  return '';
}

// call makes a call of the document and gives {status, body}. Options: path,
// query, headers, body; form: {metadata, content}; wrong: the body is meant not to
// fit.
export async function call(method, template, { path = {}, query = {}, headers = {}, body, form, wrong = false } = {}) {
  const op = doc.paths[template]?.[method.toLowerCase()];
  assert(op, `${method} ${template} is not in the document`);
  used.add(`${method} ${template}`);
  const places = { path, query, header: headers };
  for (const p of op.parameters ?? []) assert(!p.required || p.name in places[p.in], `${template} needs ${p.name}`);
  for (const [where, values] of [['query', query], ['header', headers]]) {
    for (const name of Object.keys(values)) {
      const scheme = where === 'header' && Object.values(doc.components.securitySchemes).some(s => s.in === 'header' && s.name === name);
      assert(scheme || op.parameters?.some(p => p.in === where && p.name === name), `${template} knows no ${name}`);
    }
  }
  const send = { ...headers };
  if (token && op.security.some(s => 'session' in s)) send.Authorization = `Bearer ${token}`;
  if (body !== undefined) {
    const json = op.requestBody.content['application/json'];
    assert(json, `${template} takes no JSON`);
    if (!wrong) assert.equal(fits(json.schema, body), '', `${template}: what is sent`);
    send['Content-Type'] = 'application/json';
  }
  const url = given.server + template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(path[name])) + (Object.keys(query).length ? `?${new URLSearchParams(query)}` : '');
  const res = await fetch(url, { method, headers: send, body: form ? parts(op, form) : body === undefined ? undefined : JSON.stringify(body) });
  const said = op.responses[res.status], bytes = new Uint8Array(await res.arrayBuffer());
  assert(said, `${method} ${template} answers ${res.status}, which is not in the document: ${res.ok ? '' : new TextDecoder().decode(bytes)}`);
  const kind = res.headers.get('Content-Type')?.split(';')[0];
  assert(bytes.length === 0 || said.content?.[kind], `${template} answers ${kind}, which is not in the document`);
  if (kind !== 'application/json') return { status: res.status, body: bytes, headers: res.headers };
  const answer = JSON.parse(new TextDecoder().decode(bytes));
  assert.equal(fits(said.content[kind].schema, answer), '', `${template}: the answer`);
  return { status: res.status, body: answer, headers: res.headers };
}

// parts is the body of a form, metadata first.
function parts(op, form) {
  const { schema } = op.requestBody.content['multipart/form-data'];
  assert.deepEqual(Object.keys(schema.properties), Object.keys(form));
  assert.equal(fits(schema.properties.metadata, form.metadata), '', 'metadata of the form');
  const body = new FormData();
  body.append('metadata', JSON.stringify(form.metadata));
  body.append('content', new Blob([form.content]));
  return body;
}

export async function want(status, method, template, options) {
  const got = await call(method, template, options);
  assert.equal(got.status, status, `${method} ${template}: ${JSON.stringify(got.body)}`);
  return got.body;
}

export async function refused(status, code, method, template, options) {
  const body = await want(status, method, template, options);
  assert.equal(body.code, code, `${method} ${template}`);
  assert(body.request_id && body.error);
}

// ---- the login message, as info.description says it

const big = (n, size) => Uint8Array.from({ length: size }, (_, i) => Number(BigInt(n) >> BigInt(8 * (size - 1 - i)) & 255n));
const utf8 = s => new TextEncoder().encode(s);
const prefixed = s => [big(utf8(s).length, 4), utf8(s)];

const PAGE = '00000000-0000-0000-0000-000000000000';

/** The answer to a challenge, as a page or a device gives it. */
export async function login(did, seed, { audience = given.server, device = PAGE } = {}) {
  const { nonce } = await want(200, 'POST', '/v1/auth/challenge', { body: { did, device } });
  const iat = Date.now(), exp = iat + 60000, id = Buffer.from(device.replaceAll('-', ''), 'hex');
  const message = Buffer.concat([utf8('vaultdrive/v1/did-session\0'), ...prefixed(audience), ...prefixed(did), id, Buffer.from(nonce, 'base64'), big(iat, 8), big(exp, 8)]);
  const key = await crypto.subtle.importKey('pkcs8', Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]), 'Ed25519', false, ['sign']);
  const sig = Buffer.from(await crypto.subtle.sign('Ed25519', key, message)).toString('base64');
  return { did, device, nonce, iat, exp, sig };
}

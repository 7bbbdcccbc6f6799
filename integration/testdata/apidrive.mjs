// A client that knows the published document, the password's keys and nothing of
// the drive: it lists and opens what a drive has saved, and adds a file.
//
//   node apidrive.mjs < {"server","page","did","seed","vk","vault","epoch","parent","add":{"name","content"}}
//
// It prints {name: SHA-256 of the content} of what hangs on the parent then.
import { createHash } from 'node:crypto';
import { strict as assert } from 'node:assert';
import { become, call, given, login, want } from './apidocument.mjs';

const { CHUNK, SEALED_CHUNK, encryptAttachment, decryptAttachment, decryptNames, openContent } = await import(`${given.page}/vault-attachment-crypto.js`);
const { deriveEpoch, openTitle } = await import(`${given.page}/vault-header.js`);
const keys = await deriveEpoch(Uint8Array.from(Buffer.from(given.vk, 'base64')), given.vault, given.epoch);
const list = '/api/vault/attachments', one = '/api/vault/attachments/{id}';

become((await want(201, 'POST', '/v1/auth/session', { body: await login(given.did, Buffer.from(given.seed, 'base64')) })).token);
const parent = await parentCalled(given.parent);
if (given.add) await add(given.add.name, Buffer.from(given.add.content, 'base64'));
const found = {};
for (const row of (await want(200, 'GET', list, { query: { parent_id: parent.id, parent_type: parent.type } })).attachments) {
  const { name } = await decryptNames(row, keys.encKey);
  assert(!(name in found), `${name} is there twice`);
  found[name] = await (row.encryption_version === 4 ? inRanges : whole)(row);
}
await want(204, 'DELETE', '/v1/auth/session');
console.log(JSON.stringify(found));

async function parentCalled(title) {
  for (const p of (await want(200, 'GET', '/api/vault/parents')).parents) if (await openTitle(keys, p) === title) return p;
  assert.fail(`no item is called ${title}`);
}

async function add(name, content) {
  const sealed = await encryptAttachment(new File([content], name, { type: 'text/plain' }), keys.encKey);
  await want(201, 'POST', list, { body: {
    parent_id: parent.id, parent_type: parent.type, file_name_encrypted: sealed.fileNameEncrypted, content_type_encrypted: sealed.contentTypeEncrypted,
    size_bytes: sealed.sizeBytes, wrapped_file_key: sealed.wrappedFileKey, encryption_version: 3, epoch: given.epoch, encrypted_content: sealed.encryptedContent,
  } });
}

async function whole(row) {
  const { content } = await decryptAttachment(await want(200, 'GET', one, { path: { id: row.id } }), keys.encKey);
  return createHash('sha256').update(content).digest('hex');
}

// inRanges reads a content of version 4 as one that is too long for memory.
async function inRanges(row) {
  const bytes = async (from, to) => {
    const got = await call('GET', `${one}/content`, { path: { id: row.id }, headers: { Range: `bytes=${from}-${to - 1}` } });
    assert.equal(got.status, 206);
    return got.body;
  };
  const opener = await openContent(row, keys.encKey, await bytes(0, 64)), hash = createHash('sha256'), step = 256;
  for (let first = 0; first * CHUNK <= opener.size; first += step) {
    const from = 64 + first * SEALED_CHUNK;
    hash.update(await opener.open(await bytes(from, Math.min(from + step * SEALED_CHUNK, opener.stored)), first));
  }
  return hash.digest('hex');
}

// The page: unlock, items, files. Keys live in this module while it is unlocked
// and nowhere else: no storage of the browser is used.
import { $, bytes, deliver, el, explain, fileName, shown, transferLine, when } from './view.js';
import { VaultClient } from './vault-client.js';
import { openHeader, openTitle, parseAddress, parseHeader, passwordBytes } from './vault-header.js';

const IDLE = 15 * 60_000;
// A worker is code, so that only what this policy made may name it.
const workerPolicy = globalThis.trustedTypes?.createPolicy('vault-worker', { createScriptURL: s => s });
const FOLDER = 'inode/directory', LINK = 'inode/symlink';

let client = null;  // null: locked
let parent = null;  // of the files shown
let rows = [];      // of it, with their names
let next = '';      // cursor of more of them
let busy = 0;       // transfers under way
let idle = 0;

// ---- unlock and lock

async function unlock(event) {
  event.preventDefault();
  const field = $('password');
  $('open').disabled = true;
  say('');
  try {
    if (!globalThis.crypto?.subtle) throw new Error('Browsers open a vault only over https, or on the same computer.');
    await open(parseAddress($('address').value.trim()), passwordBytes(field.value));
    field.value = '';
  } catch (err) {
    say('');
    problem(err);
    lock();
  } finally {
    $('open').disabled = false;
  }
}

async function open(address, password) {
  const fresh = new VaultClient(location.origin);
  say('Fetching the header of the vault…');
  const header = parseHeader(await fresh.header(address));
  say(`Checking the password (${Math.round(header.kdf.m / 1024)} MiB of memory, some seconds)…`);
  const opened = await openHeader(header, address, await deriveKEK(password, header.kdf));
  say('Logging in…');
  await fresh.login(opened);
  client = fresh;
  say('');
  await showParents();
  $('locked').hidden = true;
  $('unlocked').hidden = $('lock').hidden = false;
  $('sees').open = false;
  touch();
}

// Argon2id in a worker, whose memory goes with it.
function deriveKEK(password, kdf) {
  const path = new URL('./argon2-worker.js', import.meta.url).href;
  const worker = new Worker(workerPolicy ? workerPolicy.createScriptURL(path) : path, { type: 'module' });
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.kek ? resolve(data.kek) : reject(new Error(`The password cannot be checked here: ${data.error}`)));
    worker.onerror = e => reject(new Error(`The password cannot be checked here: ${e.message ?? 'the worker did not start'}`));
    worker.postMessage({ password, kdf }, [password.buffer]);
  }).finally(() => worker.terminate());
}

function lock() {
  const had = client;
  client = parent = null;
  rows = [];
  clearTimeout(idle);
  for (const id of ['parents', 'rows', 'transfers']) $(id).replaceChildren();
  $('title').firstElementChild.textContent = $('usage').textContent = '';
  $('unlocked').hidden = $('lock').hidden = true;
  $('locked').hidden = false;
  had?.logout().catch(() => {}); // its session ends by itself too
}

// touch puts off the time at which an unlocked page that nobody uses locks itself.
function touch() {
  clearTimeout(idle);
  if (client) idle = setTimeout(() => (busy > 0 ? touch() : lock()), IDLE);
}

function say(text) {
  $('status').textContent = text;
  $('problem').textContent = '';
}

function problem(err) {
  $('problem').textContent = explain(err);
}

// ---- items

async function showParents() {
  const list = await client.parents();
  const items = await Promise.all(list.map(async p => ({ p, title: await titleOf(p) })));
  items.sort((a, b) => a.title.localeCompare(b.title));
  $('parents').replaceChildren(...items.map(({ p, title }) => el('li', {}, parentButton(p, title))));
  if (items.length === 0) say('This vault has no items on this server yet. The vaultdrive program makes them.');
  await showUsage();
  $('files').hidden = items.length === 0;
  if (items.length > 0) await choose(items[0].p, items[0].title);
}

async function titleOf(p) {
  try {
    return shown(await openTitle(client.keysOf(p.epoch), p));
  } catch {
    return `(unreadable title ${p.id.slice(0, 8)})`;
  }
}

function parentButton(p, title) {
  const button = el('button', { type: 'button', onclick: () => attempt(() => choose(p, title)) }, el('bdi', { textContent: title }), el('small', { textContent: p.type }));
  button.dataset.id = p.id;
  return button;
}

async function choose(p, title) {
  parent = p;
  rows = [];
  next = '';
  for (const b of $('parents').querySelectorAll('button')) {
    if (b.dataset.id === p.id) b.setAttribute('aria-current', 'true');
    else b.removeAttribute('aria-current');
  }
  $('title').firstElementChild.textContent = title;
  await more();
}

async function showUsage() {
  const by = client, { usage, limit } = await by.usage();
  if (by === client) $('usage').textContent = `${bytes(usage)} of ${bytes(limit)} used`;
}

// ---- files

async function more() {
  const of = parent, page = await client.attachments(of, next);
  const named = await Promise.all(page.attachments.map(withNames));
  if (of !== parent) return; // another was chosen meanwhile
  rows.push(...named);
  next = page.next ?? '';
  showRows();
}

async function withNames(row) {
  try {
    return { row, ...await client.names(row) };
  } catch (err) {
    return { row, name: `unnamed-${row.id.slice(0, 8)}`, type: '', broken: explain(err) };
  }
}

function showRows() {
  rows.sort((a, b) => a.name.localeCompare(b.name));
  $('rows').replaceChildren(...rows.map(rowLine));
  $('more').hidden = next === '';
}

function rowLine(entry) {
  const { row, name, type, broken } = entry;
  const plain = !broken && type !== FOLDER && type !== LINK;
  const kind = { [FOLDER]: 'folder', [LINK]: 'link' }[type] ?? shown(type);
  const line = el('tr', {}, el('td', {}, el('bdi', { textContent: shown(name) })), el('td', { textContent: broken ?? kind, className: broken ? 'problem' : '' }),
    el('td', { textContent: plain ? bytes(row.size_bytes) : '' }), el('td', { textContent: when(row.created_at) }), el('td'));
  if (plain) line.lastChild.append(action('Download', () => download(entry)), ' ');
  line.lastChild.append(deleteAction(entry));
  line.dataset.id = row.id;
  return line;
}

const action = (textContent, run) => el('button', { type: 'button', textContent, onclick: () => attempt(run) });

// Deleting asks once more, in its own place.
function deleteAction(entry) {
  const place = el('span');
  const ask = () => place.replaceChildren(action('Delete', () => {
    place.replaceChildren(action('Really delete', () => remove(entry)), ' ', action('Keep', ask));
  }));
  ask();
  return place;
}

// What was begun before the page was locked shows and delivers nothing after it:
// by is whose it was.

async function download({ row, name }) {
  const by = client;
  await transfer(name, async progress => {
    const file = await by.download(row, progress);
    if (by === client) deliver(file.blob, fileName(file.name));
  });
}

async function upload(files) {
  const by = client, to = parent;
  for (const file of files) {
    const stored = await transfer(file.name, progress => by.upload(to, file, progress));
    if (by !== client) return;
    if (stored && to === parent) {
      const named = await withNames(stored);
      if (to !== parent) continue;
      rows.push(named);
      showRows();
    }
  }
  await showUsage();
}

async function remove({ row }) {
  const by = client;
  await by.remove(row.id);
  if (by !== client) return;
  rows = rows.filter(r => r.row.id !== row.id);
  showRows();
  await showUsage();
}

// transfer shows a line for the time of it; the line stays if it fails.
async function transfer(name, run) {
  const line = transferLine($('transfers'), shown(name));
  busy++;
  try {
    const result = await run(line.progress);
    line.remove();
    return result;
  } catch (err) {
    line.fail(explain(err));
    return null;
  } finally {
    busy--;
  }
}

async function attempt(run) {
  const by = client;
  $('problem').textContent = '';
  try {
    await run();
  } catch (err) {
    if (by === client) problem(err);
  }
}

// ---- wiring

$('unlock').addEventListener('submit', unlock);
$('open').disabled = false; // not before: nobody would be there to take the password
$('scriptless').remove();
$('lock').addEventListener('click', lock);
$('more').addEventListener('click', () => attempt(more));
$('upload').addEventListener('change', event => attempt(async () => {
  const files = [...event.target.files];
  event.target.value = ''; // so that the same file can be chosen again
  await upload(files);
}));
$('drop').addEventListener('dragover', event => {
  event.preventDefault();
  $('drop').classList.add('over');
});
for (const end of ['dragleave', 'drop']) $('drop').addEventListener(end, () => $('drop').classList.remove('over'));
$('drop').addEventListener('drop', event => {
  event.preventDefault();
  attempt(() => upload([...event.dataTransfer.files]));
});
for (const sign of ['pointerdown', 'keydown']) addEventListener(sign, touch);

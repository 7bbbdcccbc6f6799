// What is shown, and in which words. Text from the vault goes into the document
// as text only, never as markup.

export const $ = id => document.getElementById(id);

/** Makes an element; properties are set, not parsed. */
export function el(tag, properties = {}, ...children) {
  const e = Object.assign(document.createElement(tag), properties);
  e.append(...children);
  return e;
}

/** A name without what would change how the text around it is read. */
export function shown(name) {
  return name.replace(/[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, '\ufffd');
}

/** The last part of a path, as a name for a file on this computer. */
export function fileName(path) {
  const last = shown(path).split(/[/\\]/).at(-1).replace(/^\.+$/, '');
  return last === '' ? 'file' : last;
}

export function bytes(n) {
  if (n < 1000) return `${n} B`;
  const units = ['kB', 'MB', 'GB', 'TB'];
  const i = Math.min(units.length, Math.floor(Math.log10(n) / 3)) - 1;
  return `${(n / 1000 ** (i + 1)).toPrecision(3)} ${units[i]}`;
}

export const when = time => new Date(time).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' });

const words = {
  ErrAddress: 'This is no address of a vault: vd1: and 80 letters and digits.',
  ErrPassword: 'The password is wrong.',
  ErrKDFParams: 'The server gave a header with a password check that is too weak or absurd. It was not used.',
  ErrIdentityMismatch: 'The server gave the header of another vault. Do not go on; ask whoever runs it.',
  ErrSignature: 'The header that the server gave is not signed by the vault. Do not go on; ask whoever runs it.',
  ErrKeyCommit: 'Keys and contents do not belong together: the server exchanged something.',
  ErrAuth: 'This is not what was stored: damaged, or changed by somebody without the key.',
  ErrTruncated: 'The content is not complete.',
  ErrTooLarge: 'A file added here has at most 25 MiB. The vaultdrive program takes larger ones.',
  session_invalid: 'The server does not know this vault, or is known to itself under another address than the one in the address bar, or the clock of this computer is wrong.',
  quota_exceeded: 'The storage of this account is used up.',
  file_too_large: 'The file is larger than this server takes.',
  account_disabled: 'The account is disabled: ask whoever runs the server.',
  not_found: 'It is not there any more.',
  deleted: 'It was deleted.',
  blob_gone: 'The server has lost the content. A computer with the vaultdrive program that has it brings it again.',
};

/** An error in words for people. */
export function explain(err) {
  if (err?.code === 'rate_limited' || err?.code === 'unavailable') {
    const wait = err.retryAfter > 0 ? ` Try again in ${Math.ceil(err.retryAfter / 60)} min.` : '';
    return (err.code === 'rate_limited' ? 'That is more than the server allows at a time.' : 'The server is not available.') + wait;
  }
  if (err instanceof TypeError) return `The server cannot be reached, or this browser lacks something: ${err.message}`;
  return words[err?.code] ?? err?.message ?? String(err);
}

/** Gives the browser a file to keep. */
export function deliver(blob, name) {
  const url = URL.createObjectURL(blob);
  el('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser has begun to read it by then
}

/** A line with a bar, until remove() is called. */
export function transferLine(list, label) {
  const bar = el('progress', { max: 1 });
  const line = el('li', {}, el('bdi', { textContent: label }), bar);
  list.append(line);
  return {
    progress: (done, all) => { bar.value = all > 0 ? done / all : 1; },
    fail: message => {
      bar.remove();
      line.classList.add('problem');
      line.append(`: ${message} `, el('button', { type: 'button', textContent: 'Dismiss', onclick: () => line.remove() }));
    },
    remove: () => line.remove(),
  };
}

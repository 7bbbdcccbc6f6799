-- What is kept of names and titles counts as the log does: 1 KiB each, and the texts.
UPDATE accounts SET log = log
  + (SELECT coalesce(sum(1024 + octet_length(name) + octet_length(mime)), 0) FROM vault_attachments r WHERE r.account = accounts.account)
  + (SELECT coalesce(sum(1024 + octet_length(title)), 0) FROM passwords p WHERE p.account = accounts.account)
  + (SELECT coalesce(sum(1024 + octet_length(title)), 0) FROM notes p WHERE p.account = accounts.account)
  + (SELECT coalesce(sum(1024 + octet_length(title)), 0) FROM vault_items p WHERE p.account = accounts.account);

-- Entries of the audit log, counted in the account: the next number needs no look
-- at all of them.
ALTER TABLE accounts ADD COLUMN audits BIGINT NOT NULL DEFAULT 0;
UPDATE accounts SET audits = (SELECT coalesce(max(n), 0) FROM audit_log l WHERE l.account = accounts.account);

-- Row-level security: a transaction sees the rows of the account that it named
-- in vaultdrive.account, those of all where it named -1, and none where it named
-- nobody. FORCE binds the owner of the tables, who serves; a superuser is bound
-- by nothing. The setting is read once for a query, not for each row.
DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['accounts', 'devices', 'sessions', 'headers', 'passwords', 'notes', 'vault_items', 'vault_attachments', 'blobs',
    'upload_intents', 'idempotency', 'batches', 'checkpoints', 'pairings', 'feed', 'rate', 'audit_log', 'purge_queue']
  LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY named_account ON %I USING '
      '((SELECT coalesce(nullif(current_setting(''vaultdrive.account'', true), ''''), ''0'')::bigint) IN (account, -1))', t);
  END LOOP;
END $$;

-- The audit log is only ever added to, but while the server's data are being
-- brought here from elsewhere.
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM settings WHERE name = 'moving') THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'the audit log is only ever added to';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();

package server

import (
	"encoding/hex"
	"errors"
	"net/http"
	"regexp"
	"strconv"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
)

func (s *Server) getHeader(c *call) error {
	if err := s.memory.take("log "+c.account.Vault, s.o.Limits.LogReads, 1); err != nil {
		return err
	}
	seq := uint64(0)
	if c.r.PathValue("seq") != "0" { // 0: the newest
		var err error
		if seq, err = c.seqOf("seq"); err != nil {
			return err
		}
	}
	body, number, err := s.o.DB.Header(c.ctx(), c.account.ID, seq)
	if err != nil {
		return err
	}
	c.w.Header().Set(api.HeaderSeq, strconv.FormatUint(number, 10))
	c.w.Header().Set(api.HeaderRemote, c.account.Remote)
	return s.sendSmall(c, api.TypeJSON, []byte(body))
}

func (s *Server) sendSmall(c *call, typ string, body []byte) error {
	c.w.Header().Set("Content-Type", typ)
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.begin(http.StatusOK)
	c.send(body)
	return nil
}

// putHeader needs no login: the signature under the identity of the vault, and
// the number, are the authority.
func (s *Server) putHeader(c *call) error {
	if err := s.memory.take("header "+c.network(s.o.TrustProxy), s.o.Limits.Headers, 1); err != nil {
		return err
	}
	seq, err := c.seqOf("seq")
	if err != nil {
		return err
	}
	at, err := c.query("at", -1, 1<<53)
	if err != nil {
		return err
	}
	body, err := c.small(api.MaxHeader)
	if err != nil {
		return err
	}
	h, err := api.ParseHeader(body)
	if err != nil {
		return api.Errorf(api.CodeBadHeader, "%w", err)
	}
	if !api.ValidID(c.r.PathValue("vault")) {
		return metadb.ErrNotFound
	}
	account, err := s.o.DB.AccountByVault(c.ctx(), c.r.PathValue("vault"))
	if errors.Is(err, metadb.ErrNotFound) || err == nil && (account.DID != h.DID || account.Vault != h.Vault) {
		return metadb.ErrNotFound
	}
	if err != nil {
		return err
	}
	if h.Seq != seq {
		return api.Errorf(api.CodeBadHeader, "header %d under number %d", h.Seq, seq)
	}
	c.account = account
	n, err := s.o.DB.PutHeader(c.ctx(), account.ID, h, body, at)
	return s.pushed(c, n, err)
}

// pushed answers what is appended; 200 for the same bytes again.
func (s *Server) pushed(c *call, n int64, err error) error {
	if err != nil {
		return err
	}
	status := http.StatusOK
	if n > c.account.Head {
		status = http.StatusCreated
	}
	s.wake(c.account.ID)
	writeJSON(c, status, api.Pushed{N: n})
	return nil
}

// batch takes device and number of the path apart.
func (c *call) batch() (device string, seq uint64, err error) {
	if device, err = c.idOf("device"); err != nil {
		return "", 0, err
	}
	seq, err = c.seqOf("seq")
	return device, seq, err
}

// frame reads a batch or a part of a checkpoint that a device pushes, as far as
// that needs no key.
func (s *Server) frame(c *call) ([]byte, *api.ClearBatch, error) {
	if err := s.memory.take("push "+c.account.Vault, s.o.Limits.LogPushes, 1); err != nil {
		return nil, nil, err
	}
	body, err := c.small(api.MaxFrame)
	if err != nil {
		return nil, nil, err
	}
	b, err := api.ParseBatch(body)
	if err != nil {
		return nil, nil, api.Errorf(api.CodeBadBatch, "%w", err)
	}
	return body, b, nil
}

func (s *Server) getBatch(c *call) error {
	device, seq, err := c.batch()
	if err != nil {
		return err
	}
	if err := s.memory.take("log "+c.account.Vault, s.o.Limits.LogReads, 1); err != nil {
		return err
	}
	body, err := s.o.DB.Batch(c.ctx(), c.account.ID, device, seq)
	if err != nil {
		return err
	}
	return s.sendSmall(c, api.TypeBlob, body)
}

func (s *Server) putBatch(c *call) error {
	device, seq, err := c.batch()
	if err != nil {
		return err
	}
	body, b, err := s.frame(c)
	if err != nil {
		return err
	}
	if b.Vault != c.account.Vault || b.Device != device || b.Seq != seq || b.Checkpoint {
		return api.Errorf(api.CodeBadBatch, "this is not batch %d of device %s", seq, device)
	}
	n, err := s.o.DB.PutBatch(c.ctx(), c.account.ID, b, body)
	return s.pushed(c, n, err)
}

var (
	checkpointName = regexp.MustCompile(`^([0-9]{20})-([0-9a-f-]{36})$`)
	checkpointPart = regexp.MustCompile(`^(m|[1-9][0-9]{0,8})$`)
)

// checkpoint takes the name and part of the path apart.
func (c *call) checkpoint() (name, device string, seq uint64, part string, err error) {
	name, part = c.r.PathValue("name"), c.r.PathValue("part")
	m := checkpointName.FindStringSubmatch(name)
	if m == nil || !api.ValidID(m[2]) || !checkpointPart.MatchString(part) {
		return "", "", 0, "", api.Errorf(api.CodeNotFound, "no such checkpoint can be")
	}
	seq, err = strconv.ParseUint(m[1], 10, 53)
	if err != nil || seq == 0 {
		err = api.Errorf(api.CodeNotFound, "no such checkpoint can be")
	}
	return name, m[2], seq, part, err
}

func (s *Server) getCheckpoint(c *call) error {
	name, _, _, part, err := c.checkpoint()
	if err != nil {
		return err
	}
	if err := s.memory.take("log "+c.account.Vault, s.o.Limits.LogReads, 1); err != nil {
		return err
	}
	body, err := s.o.DB.Checkpoint(c.ctx(), c.account.ID, name, part)
	if err != nil {
		return err
	}
	return s.sendSmall(c, api.TypeBlob, body)
}

func (s *Server) putCheckpoint(c *call) error {
	name, device, seq, part, err := c.checkpoint()
	if err != nil {
		return err
	}
	body, b, err := s.frame(c)
	if err != nil {
		return err
	}
	if !b.Checkpoint || b.Vault != c.account.Vault || b.Device != device {
		return api.Errorf(api.CodeBadBatch, "this is no part of checkpoint %s", name)
	}
	d, err := s.o.DB.Device(c.ctx(), c.account.ID, device)
	if errors.Is(err, metadb.ErrNotFound) || err == nil && !verifies(b, d.PK) {
		return api.Errorf(api.CodeBadBatch, "the signature is not the device's")
	}
	if err != nil {
		return err
	}
	if d.Revoked {
		return api.Errorf(api.CodeDeviceRevoked, "the device is revoked")
	}
	n, err := s.o.DB.PutCheckpoint(c.ctx(), c.account.ID, name, device, seq, part, body)
	return s.pushed(c, n, err)
}

func (s *Server) collect(c *call) error {
	if err := s.other(c); err != nil {
		return err
	}
	var in api.Collect
	if err := c.json(api.MaxSmall, &in); err != nil {
		return err
	}
	for id := range in.Heads {
		if !api.ValidID(id) || in.Heads[id] > 1<<53 {
			return api.BadField("heads", "not a device and a number: %.40q", id)
		}
	}
	n, err := s.o.DB.Collect(c.ctx(), c.account.ID, in.Heads)
	if err != nil {
		return err
	}
	writeJSON(c, http.StatusOK, api.Collected{Removed: n})
	return nil
}

// pairing checks the path of a pairing's message.
func (c *call) pairing() (pair, side string, err error) {
	pair, side = c.r.PathValue("pair"), c.r.PathValue("side")
	if !api.ValidBlob(pair) || side != "q" && side != "a" {
		return "", "", api.Errorf(api.CodeNotFound, "no such pairing can be")
	}
	return pair, side, nil
}

func (s *Server) getPair(c *call) error {
	pair, side, err := c.pairing()
	if err != nil {
		return err
	}
	if err := s.other(c); err != nil {
		return err
	}
	body, err := s.o.DB.Pair(c.ctx(), c.account.ID, pair, side)
	if err != nil {
		return err
	}
	return s.sendSmall(c, api.TypeBlob, body)
}

func (s *Server) putPair(c *call) error {
	pair, side, err := c.pairing()
	if err != nil {
		return err
	}
	if err := s.other(c); err != nil {
		return err
	}
	body, err := c.small(api.MaxPair)
	if err != nil {
		return err
	}
	if err := s.o.DB.PutPair(c.ctx(), c.account.ID, pair, side, body); err != nil {
		return err
	}
	c.begin(http.StatusCreated)
	return nil
}

func (s *Server) putBoot(c *call) error {
	if err := s.other(c); err != nil {
		return err
	}
	var in api.PutBoot
	if err := c.json(api.MaxSmall, &in); err != nil {
		return err
	}
	if !api.ValidHash(in.Boot) {
		return api.BadField("boot", "SHA-256 of the boot token in hex")
	}
	if err := s.o.DB.SetBoot(c.ctx(), c.account.ID, in.Boot); err != nil {
		return err
	}
	c.begin(http.StatusNoContent)
	return nil
}

// verifies checks a frame under a key in hex.
func verifies(b *api.ClearBatch, pk string) bool {
	raw, err := hex.DecodeString(pk)
	return err == nil && len(raw) == 32 && b.Verify([32]byte(raw)) == nil
}

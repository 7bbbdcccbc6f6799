package metadb

import (
	"errors"
	"slices"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// A save that replaces a content needs only the difference: its upload names the
// blobs that it releases, and they are pledged to it. Whatever else happens to
// them meanwhile, used and reserved bytes together never pass the quota.

// makesRoom lists the blobs of u that count against its need: each once, present,
// and pledged to no other upload. Error: api's blob_pledged.
func (q *querier) makesRoom(u Upload) (list []*Blob, err error) {
	for i, id := range u.Release {
		if slices.Contains(u.Release[:i], id) {
			continue
		}
		b, err := q.blob(id)
		if err == ErrNotFound || err == nil && b.State != api.BlobPresent {
			continue
		}
		if err != nil {
			return nil, err
		}
		if b.pledge != "" && b.pledge != u.Slot {
			return nil, api.Errorf(api.CodeBlobPledged, "blob %s makes room for another upload", id)
		}
		list = append(list, b)
	}
	return list, nil
}

// needs is what an upload takes beyond the room that others make.
func needs(u Upload, room []*Blob) int64 {
	need := u.Stored
	for _, b := range room {
		need -= b.Stored
	}
	return max(0, need)
}

// reserve takes what the upload needs beyond what it is going to release.
func (q *querier) reserve(u Upload) (int64, error) {
	room, err := q.makesRoom(u)
	if err != nil {
		return 0, err
	}
	need := needs(u, room)
	if !q.book.fits(need) {
		return 0, q.book.full()
	}
	for _, b := range room {
		if err := q.must("UPDATE blobs SET pledge=$3 WHERE account=$1 AND blob=$2", u.Account, b.ID, u.Slot); err != nil {
			return 0, err
		}
		b.pledge = u.Slot
	}
	q.book.now.reserved += need
	return need, nil
}

// covers says whether what is reserved, and what is free, is enough for an upload
// that is to be committed: what it names is not released while a live row has it,
// as after a row that was refused. It changes nothing. Errors: api's
// quota_exceeded, blob_pledged.
func (q *querier) covers(u Upload, admitted bool, reserved int64) error {
	room, err := q.makesRoom(u)
	if err != nil {
		return err
	}
	if admitted { // what came later is counted for nobody
		room = slices.DeleteFunc(room, func(b *Blob) bool { return b.pledge != u.Slot })
	}
	if room, err = q.going(u, room); err != nil {
		return err
	}
	if more := needs(u, room) - reserved; more > 0 && !q.book.fits(more) {
		return q.book.full()
	}
	return nil
}

// going lists those blobs that no live row will name once the row of u is written,
// or refused.
func (q *querier) going(u Upload, list []*Blob) (out []*Blob, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	writes := false
	if u.Row != nil {
		err := q.mayWriteRow(u)
		if e := api.AsError(err); err != nil && e.Code == api.CodeInternal {
			return nil, err
		}
		writes = err == nil
	}
	for _, b := range list {
		if err := errors.Join(q.fetchNamers(b.ID), q.flush()); err != nil {
			return nil, err
		}
		named := false
		for id := range q.book.namers[b.ID] {
			named = named || !writes || id != u.Row.ID
		}
		if !named {
			out = append(out, b)
		}
	}
	return out, nil
}

// endPledges frees what makes room for an upload that ends.
func (q *querier) endPledges(account int64, slot string) error {
	for _, b := range q.book.blobs {
		if b != nil && b.pledge == slot {
			b.pledge = ""
		}
	}
	return q.must("UPDATE blobs SET pledge='' WHERE account=$1 AND pledge=$2", account, slot)
}

// keepPledge is for a blob that is about to go by another way than the upload that
// counts on its room: the room stays that upload's.
func (q *querier) keepPledge(account int64, b *Blob) error {
	if b.pledge == "" {
		return nil
	}
	n, err := q.exec("UPDATE upload_intents SET reserved=reserved+$3 WHERE account=$1 AND slot=$2", account, b.pledge, b.Stored)
	if err != nil {
		return err
	}
	if n > 0 {
		q.book.now.reserved += b.Stored
	}
	b.pledge = ""
	return nil
}

package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// syncPrinter shows for people how synchronisation is.
type syncPrinter struct {
	*common
	pid int // of the mount's process; 0: nobody has the vault open
}

func (p syncPrinter) show(v *syncView) {
	if v.Remote != "" {
		p.line("remote", "%s", p.ui.name(v.Remote))
		p.line("address", "%s", cmp.Or(v.Address, addressElsewhere))
	}
	p.line("state", "%s", p.state(v))
	if v.Enabled {
		if v.Limits != nil {
			p.line("plan", "%s", limitsText(v.Limits))
		}
		p.line("queue", "%s", queueText(v))
		if !v.Contact.IsZero() {
			p.line("contact", "%s", contactText(&v.Status))
		}
		p.line("settings", "%s", settingsText(v))
	}
	if v.RemoteOnly > 0 {
		p.line("remote only", "%s", plural(v.RemoteOnly, "file"))
	}
	if text := unverifiedText(v.Unverified, v.Deletions); text != "" {
		p.line("unverified", "%s", text)
	}
	for _, d := range v.Devices {
		p.line("device", "%s", p.device(d))
	}
	for _, g := range v.Waiting {
		p.line("waiting", "%s until %s, as the remote asked", g.Class, localTime(g.Until))
	}
	for _, b := range v.Blocked {
		p.line("blocked", "%s", p.ui.name(blockedText(b)))
	}
	for _, c := range v.Conditions {
		if c.Kind == syncer.CondOffline {
			continue // the state says so
		}
		p.line("alarm", "%s", p.ui.name(c.Text))
		if c.Hint != "" {
			p.line("hint", "%s", p.ui.name(c.Hint))
		}
	}
}

func (p syncPrinter) state(v *syncView) string {
	switch v.State {
	case stateDisabled:
		if v.Remote == "" {
			return "disabled; vaultdrive sync enable URL turns it on"
		}
		return "disabled; vaultdrive sync enable turns it on again"
	case syncer.StateOff:
		return "not mounted; vaultdrive sync now synchronises"
	case syncer.StateIdle:
		if len(v.Conditions) > 0 {
			return "idle, but something is wrong"
		}
		return "idle, all is done"
	case syncer.StateOffline:
		if v.Contact.IsZero() && len(v.Conditions) == 0 {
			return "starting: the remote has not answered yet"
		}
		return "offline: the remote does not answer; it goes on by itself"
	case syncer.StateStopped:
		return "stopped until what is wrong has been put right"
	}
	return string(v.State)
}

func queueText(v *syncView) string {
	var parts []string
	if v.Unsealed > 0 {
		parts = append(parts, plural(v.Unsealed, "change")+" to publish")
	}
	if v.Unpushed > 0 {
		parts = append(parts, plural(v.Unpushed, "batch")+" of changes to send")
	}
	if v.Saves > 0 {
		parts = append(parts, plural(v.Saves, "saved file")+" to complete first")
	}
	for _, q := range []struct {
		what string
		syncer.Queue
	}{{"upload", v.Up}, {"download", v.Down}} {
		if q.Count > 0 {
			parts = append(parts, transferText(q.what, q.Queue))
		}
	}
	if len(parts) == 0 {
		return "nothing to do"
	}
	return strings.Join(parts, "; ")
}

func limitsText(l *syncer.Limits) string {
	return fmt.Sprintf("%s: %s of %s used, files of at most %s", l.Plan, humanSize(l.Usage), humanSize(l.Limit), humanSize(l.MaxFile))
}

func transferText(what string, q syncer.Queue) string {
	s := fmt.Sprintf("%s (%s) to %s", plural(q.Count, "file"), humanSize(q.Bytes), what)
	if q.Rate > 0 {
		s += fmt.Sprintf(" at %s/s", humanSize(q.Rate))
	}
	if !q.Done.IsZero() {
		s += ", done about " + localTime(q.Done)
	}
	return s
}

func contactText(s *syncer.Status) string {
	text := "the remote last answered " + localTime(s.Contact)
	if !s.Synced.IsZero() {
		text += ", all was done " + localTime(s.Synced)
	}
	return text
}

func settingsText(v *syncView) string {
	parts := []string{"prefetch " + v.Prefetch}
	if v.UpLimit > 0 {
		parts = append(parts, "upload at most "+humanSize(v.UpLimit)+"/s")
	}
	if v.DownLimit > 0 {
		parts = append(parts, "download at most "+humanSize(v.DownLimit)+"/s")
	}
	if v.Cache.Limit > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s kept here", humanSize(v.Cache.Bytes), humanSize(v.Cache.Limit)))
	}
	if v.Metered {
		parts = append(parts, "metered")
	}
	if v.Kept {
		parts = append(parts, "credentials kept in the vault")
	}
	return strings.Join(parts, ", ")
}

func (p syncPrinter) device(d vaultcore.DeviceInfo) string {
	s := d.ID
	if d.Name != "" {
		s = p.ui.name(d.Name) + " (" + d.ID + ")"
	}
	if d.This {
		s += ", this device"
	}
	if d.Revoked {
		s += ", revoked"
	}
	return s + ", " + lastChange(d)
}

func lastChange(d vaultcore.DeviceInfo) string {
	if d.LastChange == nil {
		return "no changes yet"
	}
	return "last change " + localTime(*d.LastChange)
}

func blockedText(b syncer.BlockedJob) string {
	what := "download"
	if b.Up {
		what = "upload"
	}
	return fmt.Sprintf("%s of %s: %s", what, humanSize(b.Size), b.Reason)
}

// localTime gives a time of today without its date.
func localTime(t time.Time) string {
	t = t.Local()
	if now := time.Now(); t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04")
}

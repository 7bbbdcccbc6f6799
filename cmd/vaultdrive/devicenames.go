package main

import (
	"context"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// deviceNames puts the names of devices beside their ids in texts for people. What
// was written down had the id alone: a name comes with a device's first batch, and may
// change.
func (s *server) deviceNames(ctx context.Context) (func(text string) string, error) {
	if !s.vault.LedgerOn() {
		return func(text string) string { return text }, nil
	}
	devices, err := s.vault.Devices(ctx)
	if err != nil {
		return nil, err
	}
	var pairs []string
	for _, d := range devices {
		if d.Name != "" {
			pairs = append(pairs, d.ID, d.Name+" ("+d.ID+")")
		}
	}
	return strings.NewReplacer(pairs...).Replace, nil
}

// events reads the journal.
func (s *server) events(ctx context.Context, in eventsRequest) ([]vaultcore.Event, error) {
	page, err := s.vault.Events(in.After, in.Max)
	if err != nil || len(page) == 0 {
		return page, err
	}
	named, err := s.deviceNames(ctx)
	if err != nil {
		return nil, err
	}
	for i := range page {
		page[i].Text = named(page[i].Text)
	}
	return page, nil
}

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/remote/api"
	vaultserver "github.com/vaultdrive/vaultdrive/remote/server"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
)

// accountView is an account as an operator sees it: no name of anything.
type accountView struct {
	Vault    string `json:"vault"`
	Plan     string `json:"plan"`
	Disabled bool   `json:"disabled"`
	Created  string `json:"created"`
	Usage    int64  `json:"usage"` // bytes
	Quota    int64  `json:"quota"`
	Trash    int64  `json:"trash"`
	Log      int64  `json:"log"`
}

// serveAccountCLI lists accounts and changes them, beside a running server.
func serveAccountCLI(u *ui) *cli.Command {
	s := &serveStores{ui: u}
	json := false
	change := func(name, operands, text string, count int, run func(ctx context.Context, db *metadb.DB, a metadb.Account, arg string) error) *cli.Command {
		return &cli.Command{Name: name, ArgsUsage: operands, Usage: text, Flags: s.flags(), Action: func(cx *cli.Context) error {
			if cx.NArg() != count {
				return usage("serve account %s %s", name, operands)
			}
			return s.withAccount(cx.Context, cx.Args().Get(0), func(db *metadb.DB, a metadb.Account) error {
				return run(cx.Context, db, a, cx.Args().Get(1))
			})
		}}
	}
	disabled := func(v bool) func(context.Context, *metadb.DB, metadb.Account, string) error {
		return func(ctx context.Context, db *metadb.DB, a metadb.Account, _ string) error {
			return db.SetAccount(ctx, a.ID, nil, nil, &v)
		}
	}
	return &cli.Command{
		Name:  "account",
		Usage: "list the server's accounts, and change plan, quota and state",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "one line for each vault",
				Flags: s.flags(&cli.BoolFlag{Name: "json", Destination: &json, Usage: "print JSON with a stable schema"}),
				Action: func(cx *cli.Context) error {
					if cx.NArg() > 0 {
						return usage("serve account list takes no operands")
					}
					return s.listAccounts(cx.Context, json)
				}},
			change("set-plan", "VAULT free|premium", "free has the attachments alone, premium synchronisation", 2, setPlan),
			change("set-quota", "VAULT SIZE", "how much a vault may store, such as 10G", 2, setQuota),
			change("disable", "VAULT", "refuse its logins; what it stored stays", 1, disabled(true)),
			change("enable", "VAULT", "undo disable", 1, disabled(false)),
		},
	}
}

func setPlan(ctx context.Context, db *metadb.DB, a metadb.Account, plan string) error {
	if plan != api.PlanFree && plan != api.PlanPremium {
		return usage("%s: the plans are free and premium", plan)
	}
	return db.SetAccount(ctx, a.ID, &plan, nil, nil)
}

func setQuota(ctx context.Context, db *metadb.DB, a metadb.Account, text string) error {
	n, err := sizeFlag("quota", text)
	if err == nil {
		err = db.SetAccount(ctx, a.ID, nil, &n, nil)
	}
	return err
}

func (s *serveStores) withAccount(ctx context.Context, vault string, run func(*metadb.DB, metadb.Account) error) (err error) {
	if err := s.there(); err != nil {
		return err
	}
	db, end, err := s.openBeside(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	a, err := db.AccountByVault(ctx, vault)
	if errors.Is(err, metadb.ErrNotFound) {
		return fail(errNoAccount, "", "no account of vault %s", vault)
	}
	if err != nil {
		return err
	}
	return run(db, a)
}

func (s *serveStores) listAccounts(ctx context.Context, json bool) (err error) {
	if err := s.there(); err != nil {
		return err
	}
	db, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	list, err := db.Accounts(ctx)
	if err != nil {
		return err
	}
	views := []accountView{}
	for _, a := range list {
		views = append(views, accountView{Vault: a.Vault, Plan: a.Plan, Disabled: a.Disabled, Created: time.UnixMilli(a.Created).UTC().Format(time.RFC3339),
			Usage: a.Usage, Quota: a.Limit, Trash: a.Trash, Log: a.Log})
	}
	if json {
		return s.ui.writeJSON(views)
	}
	for _, v := range views {
		state := ""
		if v.Disabled {
			state = "  disabled"
		}
		s.ui.printf("%s  %-7s  %s of %s, trash %s, log %s%s\n", v.Vault, v.Plan, humanSize(v.Usage), humanSize(v.Quota), humanSize(v.Trash), humanSize(v.Log), state)
	}
	return nil
}

// serveInviteCLI makes an invitation, good for one vault.
func serveInviteCLI(u *ui) *cli.Command {
	s := &serveStores{ui: u}
	var life time.Duration
	return &cli.Command{
		Name:  "invite",
		Usage: "print an invitation, with which one vault may register",
		Flags: s.flags(&cli.DurationFlag{Name: "valid", Value: 7 * 24 * time.Hour, Destination: &life, Usage: "how long it can be used"}),
		Action: func(cx *cli.Context) (err error) {
			if cx.NArg() > 0 || life <= 0 {
				return usage("serve invite takes no operands, and --valid a time above zero")
			}
			fresh := s.there() // an invitation may be there before the server
			db, end, err := s.openBeside(cx.Context)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, end()) }()
			if fresh != nil {
				u.note("no server has had its data in %s yet: start it with the same --data", s.data)
			}
			raw := make([]byte, 16)
			rand.Read(raw) // never fails: crypto/rand ends the program instead
			code := hex.EncodeToString(raw)
			if err := db.AddInvite(cx.Context, vaultserver.InviteHash(code), time.Now().Add(life).UnixMilli()); err != nil {
				return fmt.Errorf("invitation: %w", err)
			}
			u.printf("%s\n", code)
			return nil
		},
	}
}

package main

import (
	"context"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// deviceView is a device as device list shows it. Name, number and time of its
// last batch are those of a vault that is open and synced, else null.
type deviceView struct {
	ID         string     `json:"id"`
	Name       *string    `json:"name"`
	This       bool       `json:"this"`
	Revoked    bool       `json:"revoked"`
	Enrolled   bool       `json:"enrolled"`
	Batches    *uint64    `json:"batches"`
	LastChange *time.Time `json:"last_change"`
}

// list asks the vault if it is open, or can be opened without asking anybody;
// else it reads the header, which is signed but not secret.
func (c *deviceCommand) list(ctx context.Context) error {
	home, err := selectVault(c.vault)
	if err != nil {
		return err
	}
	views, err := c.views(ctx, home)
	if err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(views)
	}
	for _, v := range views {
		c.ui.printf("%s%s\n", v.ID, c.ui.name(v.notes()))
	}
	return nil
}

func (c *deviceCommand) views(ctx context.Context, home vaultHome) ([]deviceView, error) {
	views, err := headerViews(home)
	if err != nil {
		return nil, err
	}
	cl, err := dialVault(ctx, home)
	if err == nil && cl == nil && c.password.explicit() {
		cl, err = c.connectHome(ctx, home)
	}
	if err != nil || cl == nil {
		return views, err
	}
	defer cl.close(ctx)
	var infos []vaultcore.DeviceInfo
	err = cl.call(ctx, callDevices, none{}, &infos)
	if rowOf(err).code == rowOf(errSyncOff).code {
		return views, nil
	}
	if err != nil {
		return nil, err
	}
	views = views[:0]
	for _, i := range infos {
		v := deviceView{ID: i.ID, Name: &i.Name, This: i.This, Revoked: i.Revoked, Enrolled: i.This && home.isEnrolled()}
		v.Batches, v.LastChange = &i.Batches, i.LastChange
		views = append(views, v)
	}
	return views, nil
}

func headerViews(home vaultHome) ([]deviceView, error) {
	header, err := readVaultHeader(home)
	if err != nil {
		return nil, err
	}
	this := thisDevice(home)
	views := []deviceView{}
	for _, d := range header.Devices {
		is := d.ID == this
		views = append(views, deviceView{ID: d.ID.UUID(), This: is, Revoked: d.Revoked, Enrolled: is && home.isEnrolled()})
	}
	return views, nil
}

func (v deviceView) notes() string {
	var notes []string
	if v.Name != nil && *v.Name != "" {
		notes = append(notes, *v.Name)
	}
	if v.This {
		notes = append(notes, "this device")
	}
	if v.Enrolled {
		notes = append(notes, "enrolled")
	}
	if v.Revoked {
		notes = append(notes, "revoked")
	}
	if v.LastChange != nil {
		notes = append(notes, "last change "+v.LastChange.Local().Format("2006-01-02 15:04"))
	}
	if len(notes) == 0 {
		return ""
	}
	return "  " + strings.Join(notes, ", ")
}

// findDevice gives the one device that a name, an id or its beginning means.
func findDevice(views []deviceView, text string) (seal.ID, error) {
	var found []deviceView
	for _, v := range views {
		if v.ID == text {
			return seal.ParseUUID(v.ID)
		}
		if v.Name != nil && *v.Name == text || len(text) >= 4 && strings.HasPrefix(v.ID, text) {
			found = append(found, v)
		}
	}
	switch len(found) {
	case 0:
		return seal.ID{}, fail(vaultcore.ErrNotFound, "vaultdrive device list shows them", "the vault has no device %s", text)
	case 1:
		return seal.ParseUUID(found[0].ID)
	}
	return seal.ID{}, fail(errWhichDevice, "", "several devices are called %s", text)
}

package syncer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A condition that is about several objects names all of them, within bounds, and
// each is an alarm once.
func TestConditionNamesAll(t *testing.T) {
	var alarms []string
	c := conditions{now: time.Now, tell: func(is Condition, alarm bool) {
		if alarm {
			alarms = append(alarms, is.Text)
		}
	}}
	raise := func(name string) { c.raise(CondContent, "other bytes: "+name, "delete them") }
	for _, name := range []string{"a", "b", "a", "c", "b"} {
		raise(name)
	}
	is, _ := c.get(CondContent)
	if is.Text != "other bytes: a, b, c" {
		t.Errorf("says %q", is.Text)
	}
	if want := []string{"other bytes: a", "other bytes: b", "other bytes: c"}; !slices.Equal(alarms, want) {
		t.Errorf("alarms %q", alarms)
	}
	for i := range 1000 {
		raise(fmt.Sprint(i))
	}
	is, _ = c.get(CondContent)
	if !strings.HasSuffix(is.Text, "and 92 more") || len(is.Text) > 200 || len(alarms) != maxTexts {
		t.Errorf("says %q, %d alarms", is.Text, len(alarms))
	}
	c.clear(CondContent)
	raise("z")
	if is, _ = c.get(CondContent); is.Text != "other bytes: z" {
		t.Errorf("says %q after the others went", is.Text)
	}
	c.set(CondOffline, "one", "")
	c.set(CondOffline, "two", "")
	if is, _ = c.get(CondOffline); is.Text != "two" {
		t.Errorf("says %q", is.Text)
	}
}

// Two devices whose clocks are wrong are both named, whichever is met first; a look
// at everything forgets the one whose clock was put right.
func TestConditionNamesEachDevice(t *testing.T) {
	for _, order := range [][]string{{"laptop", "phone"}, {"phone", "laptop"}} {
		c := conditions{now: time.Now}
		says := func(want string) {
			t.Helper()
			if is, _ := c.get(CondPeerClock); is.Text != want {
				t.Errorf("says %q, want %q", is.Text, want)
			}
		}
		for _, name := range slices.Concat(order, order) {
			c.set(CondPeerClock, "wrong clock: "+name, "set it")
		}
		says("wrong clock: " + order[0] + ", " + order[1])
		c.doubt(CondPeerClock)
		c.set(CondPeerClock, "wrong clock: phone", "set it")
		c.settle()
		says("wrong clock: phone")
		c.doubt(CondPeerClock)
		c.settle()
		says("")
	}
}

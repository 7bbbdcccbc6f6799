package vaultcore

import (
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob/mounttest"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

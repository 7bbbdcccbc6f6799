//go:build !race

package vaultcore

const raceEnabled = false

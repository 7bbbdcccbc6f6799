//go:build !race

package server

// raceEnabled: children are race builds too.
const raceEnabled = false

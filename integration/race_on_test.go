//go:build race

package integration

// raceEnabled makes the program under test a race build too.
const raceEnabled = true

package seal

import "golang.org/x/sys/cpu"

// FastAES reports whether this machine has instructions for AES and carry-less
// multiplication. Without them Go's AES looks things up in tables, which is slow
// and tells a neighbour on the machine about the key by its timing.
func FastAES() bool {
	return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ ||
		cpu.ARM64.HasAES && cpu.ARM64.HasPMULL ||
		cpu.S390X.HasAES && cpu.S390X.HasGHASH
}

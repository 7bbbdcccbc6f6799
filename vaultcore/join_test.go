package vaultcore

import "testing"

// TestJoinWithWrongPassword: also one that no vault would take as a new password
// is wrong, not weak.
func TestJoinWithWrongPassword(t *testing.T) {
	f := newFleet(t, "ada")
	ada := f.devices[0]
	headers, err := ada.HeaderEnvelopes(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"", "short", otherPassword} {
		home := t.TempDir() + "/other"
		_, err := Join(t.Context(), JoinOptions{
			Home: home, Password: []byte(password), Headers: headers, DID: ada.keys.header().DID, KDF: quickKDF,
		})
		wantHomeErr(t, "join with "+password, err, ErrWrongPassword)
		_, err = NewRebuild(t.Context(), RebuildOptions{Home: home, Password: []byte(password), Headers: headers, KDF: quickKDF})
		wantHomeErr(t, "restore with "+password, err, ErrWrongPassword)
	}
}

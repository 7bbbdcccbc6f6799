package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// rclone times the same two ways of rclone with a crypt remote.
func (s *syncBench) rclone(t *firstTimes, source string, _ int) error {
	copyTo, err := s.rcloneCopy()
	if err != nil {
		return err
	}
	took, err := copyTo(source, "crypt:source")
	if err != nil {
		return err
	}
	t[theirUp] = append(t[theirUp], took)
	back := filepath.Join(s.work, "back")
	defer os.RemoveAll(back)
	if took, err = copyTo("crypt:source", back); err != nil {
		return err
	}
	t[theirDown] = append(t[theirDown], took)
	_, err = runEnv(os.Environ(), "diff", "-r", source, back)
	return err
}

// rcloneCopy configures a crypt remote in a place of its own.
func (s *syncBench) rcloneCopy() (func(from, to string) (float64, error), error) {
	password, err := runEnv(os.Environ(), "rclone", "obscure", "correct horse battery staple")
	if err != nil {
		return nil, err
	}
	s.count++
	config := filepath.Join(s.work, "rclone.conf")
	text := fmt.Sprintf("[s3]\ntype = s3\nprovider = Other\naccess_key_id = %s\nsecret_access_key = %s\nendpoint = http://%s\nregion = us-east-1\n"+
		"[crypt]\ntype = crypt\nremote = s3:bench/rclone%d\npassword = %s\n", keyID, keySecret, s.address, s.count, strings.TrimSpace(password))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	// Without this machine's own settings for AWS.
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.work}
	return func(from, to string) (float64, error) {
		return timed(func() error {
			_, err := runEnv(env, "rclone", "--config", config, "copy", "--transfers", "8", from, to)
			return err
		})
	}, nil
}

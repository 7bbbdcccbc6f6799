package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// routeTree serves the calls about assets, folders and files.
func (s *server) routeTree(mux *http.ServeMux) {
	unary(mux, callPing, func(context.Context, none) (pingAnswer, error) { return pingAnswer{Home: s.vault.Home()}, nil })
	unary(mux, callStatus, s.status)
	unary(mux, callStat, func(_ context.Context, in pathRequest) (vaultcore.Info, error) {
		return s.vault.Stat(in.Path)
	})
	streaming(mux, callList, func(_ context.Context, in pathRequest, k *sink) error {
		return s.vault.List(in.Path, in.Recursive, func(i vaultcore.Info) error { return k.item(i) })
	})
	changing(s, mux, callRemove, func(_ context.Context, in pathRequest) (none, error) {
		return none{}, s.vault.Remove(in.Path, in.Recursive)
	})
	changing(s, mux, callMove, func(_ context.Context, in moveRequest) (none, error) {
		return none{}, s.vault.Move(in.From, in.To)
	})
	changing(s, mux, callMkdir, func(_ context.Context, in pathRequest) (vaultcore.Info, error) {
		return s.makeDir(in)
	})
	changing(s, mux, callSymlink, func(_ context.Context, in pathRequest) (vaultcore.Info, error) {
		return s.vault.MakeLink(in.Path, in.Target, in.Replace)
	})
	changing(s, mux, callAttrs, func(_ context.Context, in attrsRequest) (none, error) {
		return none{}, s.vault.SetPathAttr(in.Path, vaultcore.SetAttr{Mode: &in.Mode, Mtime: &in.Mtime})
	})
	unary(mux, callReadlink, func(_ context.Context, in pathRequest) (targetAnswer, error) {
		n, err := s.vault.Find(in.Path)
		if err != nil {
			return targetAnswer{}, err
		}
		target, err := s.vault.Readlink(n)
		return targetAnswer{target}, err
	})
	s.routeAssets(mux)
	s.routeTrash(mux)
}

// makeDir makes a folder or asset that must be new, unless parents may exist.
func (s *server) makeDir(in pathRequest) (vaultcore.Info, error) {
	if !in.Parents {
		if _, err := s.vault.Find(in.Path); err == nil {
			return vaultcore.Info{}, fmt.Errorf("%s: %w", in.Path, vaultcore.ErrExist)
		}
	}
	return s.vault.MakeDir(in.Path, in.Parents)
}

func (s *server) routeAssets(mux *http.ServeMux) {
	changing(s, mux, callAssetAdd, func(_ context.Context, in assetRequest) (vaultcore.Info, error) {
		return s.vault.AddAsset(in.Title, in.Type)
	})
	changing(s, mux, callAssetRename, func(_ context.Context, in moveRequest) (none, error) {
		return none{}, s.vault.RenameAsset(in.From, in.To)
	})
	changing(s, mux, callAssetRemove, func(_ context.Context, in pathRequest) (none, error) {
		return none{}, s.vault.RemoveAsset(in.Path, in.Recursive)
	})
}

func (s *server) routeTrash(mux *http.ServeMux) {
	unary(mux, callTrash, func(context.Context, none) ([]vaultcore.TrashEntry, error) {
		return s.vault.Trash()
	})
	changing(s, mux, callTrashRestore, func(_ context.Context, in idsRequest) ([]pathAnswer, error) {
		var restored []pathAnswer
		for _, id := range in.IDs {
			path, err := s.vault.RestoreTrash(id)
			if err != nil {
				return nil, err
			}
			restored = append(restored, pathAnswer{path})
		}
		return restored, nil
	})
	changing(s, mux, callTrashEmpty, func(_ context.Context, in idsRequest) (emptiedAnswer, error) {
		n, bytes, err := s.vault.EmptyTrash(in.IDs)
		return emptiedAnswer{n, bytes}, err
	})
}

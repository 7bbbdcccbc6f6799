package metadb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// A server's data can be brought from one database to another. What each says
// about that stands among its settings.
const (
	settingServer = "server" // whose data these are: random, and moves with them
	settingMoving = "moving" // the data of that server are on their way here
	settingMoved  = "moved"  // they were brought elsewhere
)

// Errors of a database that is not, or not any more, a server's.
var (
	ErrMoved     = errors.New("the server's data were moved elsewhere")
	ErrHalfMoved = errors.New("a server's data were not brought here completely")
	ErrOccupied  = errors.New("the database holds another server's data")
)

// Arrival is data on their way into a database.
type Arrival struct {
	Server string `json:"server"`
	Blobs  string `json:"blobs"` // where its blobs go, as people write it
}

// Departure is what a database says of data that left it.
type Departure struct {
	Database string `json:"database"` // without a password
	Blobs    string `json:"blobs"`
	Time     string `json:"time"` // RFC 3339
}

func (q *querier) setting(name string) (value string, found bool, err error) {
	err = q.one("SELECT value FROM settings WHERE name=$1", []any{name}, &value)
	if err == ErrNotFound {
		return "", false, nil
	}
	return value, err == nil, err
}

const putSettingText = "INSERT INTO settings(name,value) VALUES($1,$2) ON CONFLICT(name) DO UPDATE SET value=excluded.value"

func (q *querier) putSetting(name, value string) error {
	return q.must(putSettingText, name, value)
}

func (q *querier) putJSON(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return q.putSetting(name, string(text))
}

// readJSON says whether the setting is there.
func (q *querier) readJSON(name string, v any) (bool, error) {
	text, found, err := q.setting(name)
	if err != nil || !found {
		return false, err
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return false, fmt.Errorf("setting %s is damaged: %w", name, err)
	}
	return true, nil
}

// ServerID says whose data these are; fresh gives a new server its own.
func (db *DB) ServerID(ctx context.Context, fresh func() string) (string, error) {
	return db.Setting(ctx, settingServer, fresh)
}

// MayServe says whether a server may use the database. Errors: ErrMoved,
// ErrHalfMoved.
func (db *DB) MayServe(ctx context.Context) error {
	return db.view(ctx, nobody, func(q *querier) error {
		var to Departure
		if gone, err := q.readJSON(settingMoved, &to); err != nil || gone {
			return errors.Join(err, fmt.Errorf("%w: on %s to %s and %s", ErrMoved, to.Time, to.Database, to.Blobs))
		}
		if _, under, err := q.setting(settingMoving); err != nil || under {
			return errors.Join(err, ErrHalfMoved)
		}
		return nil
	})
}

// Arriving reads what is on its way here, and whose data are here already: ""
// where there is no account. Error: ErrOccupied for accounts of a server that has
// no name.
func (db *DB) Arriving(ctx context.Context) (a Arrival, under bool, server string, err error) {
	err = db.view(ctx, everyone, func(q *querier) error {
		if under, err = q.readJSON(settingMoving, &a); err != nil || under {
			return err
		}
		var accounts int64
		if err := q.one("SELECT count(*) FROM accounts", nil, &accounts); err != nil || accounts == 0 {
			return err
		}
		var found bool
		if server, found, err = q.setting(settingServer); err != nil || found {
			return err
		}
		return ErrOccupied
	})
	return a, under, server, err
}

// BeginArrival keeps servers out until EndArrival.
func (db *DB) BeginArrival(ctx context.Context, a Arrival) error {
	return db.update(ctx, func(q *querier) error { return q.putJSON(settingMoving, a) })
}

// EndArrival makes the database the server's own: with what belongs to no
// account, and without the mark.
func (db *DB) EndArrival(ctx context.Context, from *DB) error {
	return db.update(ctx, func(q *querier) error {
		for _, t := range commonTables {
			if err := q.bring(ctx, from, t, 0); err != nil {
				return err
			}
		}
		return q.must("DELETE FROM settings WHERE name=$1", settingMoving)
	})
}

// Depart marks the data as moved: no server starts on them. On the connection that
// keeps servers away, where there is one: so they were away all the time. Error:
// ErrInUse if it has broken.
func (db *DB) Depart(ctx context.Context, to Departure) error {
	if db.held != nil {
		text, err := json.Marshal(to)
		if err != nil {
			return err
		}
		if _, err := db.held.Exec(ctx, putSettingText, settingMoved, string(text)); err != nil {
			return fmt.Errorf("%w: the connection that kept servers away was lost: %w", ErrInUse, err)
		}
		return nil
	}
	return db.update(ctx, func(q *querier) error { return q.putJSON(settingMoved, to) })
}

// Unmove takes the mark away, and says what it was. Error: ErrNotFound.
func (db *DB) Unmove(ctx context.Context) (to Departure, err error) {
	err = db.update(ctx, func(q *querier) error {
		found, err := q.readJSON(settingMoved, &to)
		if err != nil {
			return err
		}
		if !found {
			return ErrNotFound
		}
		return q.must("DELETE FROM settings WHERE name=$1", settingMoved)
	})
	return to, err
}

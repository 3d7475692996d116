package logging_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/logging"
)

func TestAFailureThatLastsIsLoggedOnce(t *testing.T) {
	var failures logging.OnChange
	require.False(t, failures.Log(nil))
	require.True(t, failures.Log(errors.New("refused")))
	require.False(t, failures.Log(errors.New("refused")))
	require.True(t, failures.Log(errors.New("forbidden")))
	require.True(t, failures.Log(errors.New("refused")), "the failure is another one than before")
	require.False(t, failures.Log(nil))
	require.True(t, failures.Log(errors.New("refused")), "the failure came back")
}

func TestAFailureThatLastsIsLoggedAgainAfterRemind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := logging.OnChange{Remind: time.Minute}
		require.True(t, failures.Log(errors.New("refused")))
		time.Sleep(time.Minute) //nolint:forbidigo // inside the bubble
		require.False(t, failures.Log(errors.New("refused")))
		time.Sleep(time.Second) //nolint:forbidigo // inside the bubble
		require.True(t, failures.Log(errors.New("refused")))
		require.False(t, failures.Log(errors.New("refused")))
	})
}

func TestPaceHasOneLineInATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := logging.Pace{Every: time.Minute}
		require.True(t, pace.Due())
		time.Sleep(time.Minute) //nolint:forbidigo // inside the bubble
		require.False(t, pace.Due())
		time.Sleep(time.Second) //nolint:forbidigo // inside the bubble
		require.True(t, pace.Due())
		require.False(t, pace.Due())
	})
}

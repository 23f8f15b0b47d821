// Runs a container through EasyQ: stdout to stdout, stderr to stderr, and its exit code.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	easyq "easyq.example/run/gen/easyq/v1"
)

const (
	// What `easyq run` exits with where no container gave an exit code.
	ownFailure = 125
	// How long a server may be away while a job is followed.
	patience = time.Minute
)

// Calls that may be repeated without harm are, for about 1.5 s, while the server can't be reached.
const repeats = `{"methodConfig": [{
	"name": [
		{"service": "easyq.v1.JobService", "method": "CreateJob"},
		{"service": "easyq.v1.JobService", "method": "GetJob"}
	],
	"timeout": "30s",
	"retryPolicy": {
		"maxAttempts": 4, "initialBackoff": "0.2s", "maxBackoff": "2s", "backoffMultiplier": 2,
		"retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
	}
}]}`

type client struct {
	jobs easyq.JobServiceClient
	logs easyq.LogServiceClient
}

func main() {
	server := flag.String("server", "", "EasyQ's gRPC address (default: $EASYQ_SERVER, else 127.0.0.1:10001)")
	task := flag.String("task", "run", "the task of the job")
	envs := map[string]string{}
	flag.Func("e", "a variable of the container, as KEY=VALUE; may be given many times", func(text string) error {
		key, value, found := strings.Cut(text, "=")
		if !found || key == "" {
			return errors.New("it is not KEY=VALUE")
		}
		envs[key] = value
		return nil
	})
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: %s [OPTIONS] IMAGE [COMMAND...]\n", os.Args[0])
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	spec := &easyq.JobSpec{Image: flag.Arg(0), Command: flag.Args()[1:], Envs: envs}
	code, err := run(context.Background(), address(*server), *task, spec)
	if err != nil {
		fmt.Fprintln(os.Stderr, "run:", oneLine(err))
		os.Exit(ownFailure)
	}
	os.Exit(code)
}

func address(flag string) string {
	for _, found := range []string{flag, os.Getenv("EASYQ_SERVER")} {
		if found != "" {
			return found
		}
	}
	return "127.0.0.1:10001"
}

func oneLine(err error) string {
	told := status.Convert(err)
	text := strings.Join(strings.Fields(told.Message()), " ")
	if told.Code() == codes.Unknown {
		return text
	}
	return fmt.Sprintf("%s: %s", told.Code(), text)
}

// run gives the container's exit code.
func run(ctx context.Context, server, task string, spec *easyq.JobSpec) (int, error) {
	connection, err := grpc.NewClient(
		server,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(repeats),
	)
	if err != nil {
		return 0, err
	}
	defer connection.Close()
	farm := client{easyq.NewJobServiceClient(connection), easyq.NewLogServiceClient(connection)}
	// With a key a repeated call enqueues nothing twice.
	request := &easyq.CreateJobRequest{TaskId: task, Spec: spec, IdempotencyKey: rand.Text()}
	job, err := farm.jobs.CreateJob(ctx, request)
	if err != nil {
		return 0, err
	}
	end, err := farm.follow(ctx, job.JobId)
	if err != nil {
		return 0, err
	}
	if end.ExitCode == nil {
		return 0, farm.whyNoCode(ctx, job.JobId, end)
	}
	return int(*end.ExitCode), nil
}

// follow writes the output of all attempts of a job as it comes, and gives its end.
func (farm client) follow(ctx context.Context, jobID string) (*easyq.LogEnd, error) {
	request := &easyq.FollowLogsRequest{JobId: jobID}
	heard := time.Now()
	for {
		end, some, err := farm.read(ctx, request)
		if end != nil || !mayGoOn(err) {
			return end, err
		}
		if some {
			heard = time.Now()
		}
		if time.Since(heard) > patience {
			return nil, errors.Join(err, errors.New("the output of the job has broken off"))
		}
		time.Sleep(time.Second / 2)
	}
}

func mayGoOn(err error) bool {
	// A stream that ends in order, but too early, ends for the server's sake. RESOURCE_EXHAUSTED tells a reader that took
	// nothing for a minute to come back, as it tells all where there are too many of them.
	code := status.Code(err)
	return err == nil || errors.Is(err, io.EOF) || code == codes.Unavailable || code == codes.ResourceExhausted
}

// read writes what one stream gives, and notes in the request how far that was: the next stream begins there, so that
// nothing is lost or doubled.
func (farm client) read(ctx context.Context, request *easyq.FollowLogsRequest) (end *easyq.LogEnd, some bool, err error) {
	stream, err := farm.logs.FollowLogs(ctx, request)
	for err == nil {
		var response *easyq.FollowLogsResponse
		if response, err = stream.Recv(); err != nil {
			break
		}
		some = true
		switch event := response.Event.(type) {
		case *easyq.FollowLogsResponse_Attempt:
			request.Position = &easyq.LogPosition{
				ExecutionId:  event.Attempt.ExecutionId,
				StdoutOffset: event.Attempt.StdoutOffset,
				StderrOffset: event.Attempt.StderrOffset,
			}
		case *easyq.FollowLogsResponse_Chunk:
			err = write(event.Chunk, request.Position)
		case *easyq.FollowLogsResponse_End:
			request.Position.Ended = true
			if event.End.JobEnded {
				return event.End, some, nil
			}
		}
	}
	return nil, some, err
}

func write(chunk *easyq.LogChunk, position *easyq.LogPosition) error {
	target, offset := os.Stdout, &position.StdoutOffset
	if chunk.Stream == easyq.LogStream_STDERR {
		target, offset = os.Stderr, &position.StderrOffset
	}
	*offset = chunk.Offset + int64(len(chunk.Data))
	_, err := target.Write(chunk.Data)
	return err
}

func (farm client) whyNoCode(ctx context.Context, jobID string, end *easyq.LogEnd) error {
	job, err := farm.jobs.GetJob(ctx, &easyq.GetJobRequest{JobId: jobID})
	if err != nil {
		return err
	}
	return fmt.Errorf("job %s %s without an exit code: %s", jobID, end.State, job.GetError().GetMessage())
}

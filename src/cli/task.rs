//! `trunkline task`: background work that is to be done, or was given up.

use clap::Subcommand;
use serde_json::json;

use super::client::{self, Client};
use super::output::Output;
use super::{Error, display};
use crate::grpc::pb::{ListTasksRequest, RetryTaskRequest, TaskState};

/// The page size of a listing.
const PAGE_SIZE: u32 = 500;

/// Works with background tasks.
#[derive(Subcommand)]
pub enum Command {
    /// Lists tasks that are to be done or were given up, in order of creation.
    List {
        /// Only those that were given up.
        #[arg(long)]
        dead: bool,
    },
    /// Has a task done that was given up.
    Retry {
        /// The task's id.
        task_id: String,
    },
}

/// Carries out `command`.
pub async fn execute(client: &Client, command: Command, output: Output) -> Result<(), Error> {
    match command {
        Command::List { dead } => list(client, dead, output).await,
        Command::Retry { task_id } => {
            let send = |request| {
                let mut queue = client.queue.clone();
                async move { queue.retry_task(request).await }
            };
            client::call(&RetryTaskRequest { task_id }, send).await?;
            Ok(output.note("queued")?)
        }
    }
}

async fn list(client: &Client, dead: bool, output: Output) -> Result<(), Error> {
    let states = if dead { vec![TaskState::Dead.into()] } else { Vec::new() };
    let mut request = ListTasksRequest { states, page_size: PAGE_SIZE, page_token: String::new() };
    let mut tasks = Vec::new();
    loop {
        let send = |request| {
            let mut queue = client.queue.clone();
            async move { queue.list_tasks(request).await }
        };
        let answer = client::call(&request, send).await?;
        tasks.extend(answer.tasks);
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let value = tasks
        .iter()
        .map(|task| {
            json!({
                "task_id": task.task_id, "kind": task.kind, "subject": task.subject,
                "state": display::task_state(task.state()), "attempts": task.attempts,
                "run_time": display::time(task.run_time.as_ref()), "last_error": task.last_error,
            })
        })
        .collect();
    let rows = tasks
        .into_iter()
        .map(|task| {
            let (state, attempts) = (display::task_state(task.state()), task.attempts.to_string());
            let next = display::time(task.run_time.as_ref());
            vec![task.task_id, task.kind, task.subject, state, attempts, next, task.last_error]
        })
        .collect();
    let header = ["task", "kind", "about", "state", "attempts", "not before", "last error"];
    Ok(output.show(&value, &header, rows)?)
}

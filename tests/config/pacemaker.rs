//! What Pacemaker's own tools make of a plan: the three forms say the same, the schema accepts it, and
//! the scheduler does with it what is wanted.

mod forms;
mod opt_in;
mod placement;
mod survey;
mod upgrade;

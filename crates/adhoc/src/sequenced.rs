//! A table whose rows can be asked for with their place among the rows of all tables.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

/// A table, and the same one with a column more, the last: a Decimal128 that rises over its rows, and that no two rows
/// share, of this table and of others.
pub struct Sequenced {
    /// What is scanned where nobody asks for the place.
    pub plain: Arc<dyn TableProvider>,
    /// The table with the column more.
    pub sequenced: Arc<dyn TableProvider>,
}

impl fmt::Debug for Sequenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sequenced").field(&self.plain).finish()
    }
}

impl TableProvider for Sequenced {
    fn schema(&self) -> SchemaRef {
        self.plain.schema()
    }

    fn table_type(&self) -> TableType {
        self.plain.table_type()
    }

    // As the trait's attribute spells an async function: what is polled is the plain table's future.
    fn scan<'a, 'b, 'c, 'd, 'f>(
        &'a self,
        state: &'b dyn Session,
        projection: Option<&'c Vec<usize>>,
        filters: &'d [Expr],
        limit: Option<usize>,
    ) -> Pin<Box<dyn Future<Output = Result<Arc<dyn ExecutionPlan>>> + Send + 'f>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        'd: 'f,
        Self: 'f,
    {
        self.plain.scan(state, projection, filters, limit)
    }
}
